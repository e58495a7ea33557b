"""What is told of these networks and no measurement here can test: who, when, how long, and errors on ImageNet.

Each stands beside what the paper itself prints.
"""

from __future__ import annotations

from convatlas.experiments.engine.statement import Quoted

READ = "Nothing is measured: a date is read."
IMAGENET = "Training on ImageNet's 1.28 million photographs, days on several GPUs."
IMAGENET_AND_SERVER = (
    "Training several networks on ImageNet, and the labels of the challenge's test images, which are not public."
)

QUOTED: tuple[Quoted, ...] = (
    Quoted(
        text="LeNet is of 1995.",
        source="The network for zip codes is of 1989 (LeCun et al., Neural Computation 1(4)), LeNet-5's description of "
        "1998 (LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86(11), section II).",
        why=READ,
    ),
    Quoted(
        text="AlexNet trained for over a week.",
        source="Between five and six days on two GTX 580 (Krizhevsky, Sutskever and Hinton 2012, section 1).",
        why="Two GTX 580 and ImageNet. On another machine a time says nothing about that one.",
    ),
    Quoted(
        text="AlexNet won ILSVRC 2012.",
        source="15.3 % top-5 error on the test images against 26.2 % of the second (Krizhevsky et al. 2012, abstract "
        "and Table 2): seven networks. One network has 18.2 % on the validation images.",
        why=IMAGENET_AND_SERVER,
    ),
    Quoted(
        text="VGG-16 reaches 92.7 % top-5 accuracy.",
        source="An error of 7.3 % is printed for the team's seven networks (Simonyan and Zisserman 2014, Table 7) and "
        "for configuration E, VGG-19, alone (section 4.2). VGG-16's own best is 7.2 %, on the validation images "
        "(Table 5).",
        why=IMAGENET_AND_SERVER,
    ),
    Quoted(
        text="VGG came second in ILSVRC 2014.",
        source="First in localization and second in classification (Simonyan and Zisserman 2014, abstract).",
        why="Nothing is measured: a rank is read.",
    ),
    Quoted(
        text="VGG takes long to train.",
        source="Two to three weeks on four Titan Black (Simonyan and Zisserman 2014, section 3.3). What a training "
        "step costs here is in the topic small-filters.",
        why="Four Titan Black and ImageNet.",
    ),
    Quoted(
        text="GoogLeNet was the state of the art of 2014.",
        source="First in ILSVRC 2014 with 6.67 % top-5 error, seven networks and 144 crops (Szegedy et al. 2014, "
        "Table 2). One network and one crop have 10.07 % (Table 3).",
        why=IMAGENET_AND_SERVER,
    ),
    Quoted(
        text="ResNet won ILSVRC 2015 with 3.57 %.",
        source="Six networks (He et al. 2015, abstract and Table 5). ResNet-152 alone has 4.49 % on the validation "
        "images, at several scales (Table 4).",
        why=IMAGENET_AND_SERVER,
    ),
    Quoted(
        text="On ImageNet 34 plain layers are worse than 18, and 34 with shortcuts are better.",
        source="Top-1 error of plain networks 27.94 and 28.54 %, with shortcuts 27.88 and 25.03 % (He et al. 2015, "
        "Table 2). The same on CIFAR-10 is in the topic degradation.",
        why=IMAGENET,
    ),
    Quoted(
        text="SqueezeNet has AlexNet's accuracy on ImageNet at 510 times fewer bytes.",
        source="57.5 % top-1 and 80.3 % top-5, uncompressed and at 6 bits and 0.47 MB (Iandola et al. 2016, Table 2).",
        why=f"{IMAGENET[:-1]}, then Deep Compression.",
    ),
    Quoted(
        text="MobileNet loses 1 point on ImageNet against full convolutions.",
        source="70.6 and 71.7 % top-1 accuracy (Howard et al. 2017, Table 4). The same on CIFAR-10 is in the topic "
        "separable.",
        why=IMAGENET,
    ),
    Quoted(
        text="MobileNet's accuracy on ImageNet falls smoothly with width and resolution.",
        source="70.6, 68.4, 63.7 and 50.6 % at width 1, 0.75, 0.5 and 0.25 (Howard et al. 2017, Table 6); 70.6, 69.1, "
        "67.2 and 64.4 % at 224, 192, 160 and 128 px (Table 7).",
        why=IMAGENET,
    ),
    Quoted(
        text="EfficientNet-B7 is the most accurate network on ImageNet.",
        source="84.3 % top-1 accuracy, the state of the art of 2019 (Tan and Le 2019, abstract and Table 2); 84.4 % in "
        "the first version of the paper. B0 has 77.1 %.",
        why="Training on ImageNet at 600 px, weeks on many accelerators.",
    ),
    Quoted(
        text="EfficientNet-B7 is 8.4 times smaller and 6.1 times faster than the best network before it.",
        source="Tan and Le 2019, abstract. The other network is GPipe, with 556 million parameters.",
        why="That network, which is none of the eight families.",
    ),
)
