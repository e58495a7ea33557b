"""convatlas list, convatlas show, convatlas compare"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import convatlas as ca
from convatlas import measure
from convatlas.museum.exhibits import EXHIBITS
from convatlas.spec import Variant

FAMILIES = Path(__file__).parents[2] / "docs" / "families.svg"

# The first network of each family.
FIRST = [family.variants[0] for family in ca.families()]
every_first = pytest.mark.parametrize("variant", FIRST, ids=lambda variant: variant.name)

TOTALS = {
    "params",
    "training_only_params",
    "macs",
    "peak_activation_bytes",
    "weight_bytes_32_bits",
    "weight_bytes_16_bits",
    "weight_bytes_8_bits",
}


def row(text: str, name: str) -> list[str]:
    """The cells of the one line that begins with `name`."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}  ")]
    return re.split("  +", line)[1:]


def test_list_names_every_variant_with_its_size(convatlas: Callable, as_json: Callable) -> None:
    title, *lines = convatlas("list", "--all").out.splitlines()
    rows = as_json("list", "--all")["variants"]
    assert re.split("  +", title) == ["network", "year", "input", "parameters", "MACs", "published result"]
    expected = []
    for family in ca.families():
        expected.append([f"{family.name}:"])
        for variant in family.variants:
            row = rows.pop(0)
            assert set(row) == {"name", "family", "year", "resolution", "params", "macs", "published", "summary"}
            assert (row["name"], row["family"], row["summary"]) == (variant.name, family.name, variant.summary)
            assert (row["year"], row["resolution"]) == (variant.paper.year, variant.spec.resolution)
            numbers = [str(row["year"]), f"{row['resolution']} px", f"{row['params']:,}", f"{row['macs']:,}"]
            expected.append([variant.name, *numbers, *([row["published"]] if row["published"] else [])])
    assert rows == []
    assert [re.split("  +", line) for line in lines] == expected


def test_list_leaves_out_what_no_paper_prints(convatlas: Callable, as_json: Callable) -> None:
    released = {variant.name for variant in ca.variants() if variant.released}
    names = {row["name"] for row in as_json("list")["variants"]}
    assert names == {variant.name for variant in ca.variants()} - released
    assert (
        convatlas("list").out.splitlines()[-1].startswith(f"and {len(released)} as libraries released them, with --all")
    )


@pytest.mark.parametrize(
    ("name", "params", "macs", "published"),
    [
        # Sums of the papers' own layer lists.
        ("lenet5", 60_000, 326_520, "0.95 % on MNIST"),
        ("vgg16", 138_357_544, 15_470_264_320, "27.0 % top-1 error on ILSVRC-2012 validation, single scale 256"),
        ("squeezenet", 1_248_424, 832_667_936, "57.5 % top-1 accuracy on ImageNet"),
        ("resnet20-cifar", 269_722, 40_551_040, "8.75 % on CIFAR-10"),
        ("vgg16-bn", 138_365_992, 15_470_264_320, ""),
    ],
)
def test_what_list_says_of_a_network_is_what_its_layers_add_up_to(
    name: str, params: int, macs: int, published: str, as_json: Callable
) -> None:
    shown = as_json("show", name)
    assert (shown["params"], shown["macs"]) == (params, macs)
    variant = ca.find(name)
    assert measure.cost_of(variant.network, variant.spec) == (params, macs)
    assert variant.published == published


@every_first
def test_show_has_every_layer_and_every_claim(variant: Variant, convatlas: Callable, as_json: Callable) -> None:
    text = convatlas("show", variant.name).out
    values = as_json("show", variant.name)
    assert text.splitlines()[0] == f"{variant.name}: {variant.summary}"
    assert variant.paper.title in text
    assert values["paper"]["title"] == variant.paper.title
    assert sum(layer["params"] for layer in values["layers"]) == values["params"]
    assert sum(layer["macs"] for layer in values["layers"]) == values["macs"]
    for layer in values["layers"]:
        kind, shape, params, macs, _, field, stride = row(text, layer["name"])
        assert kind == layer["kind"]
        assert shape == "×".join(map(str, layer["output_shape"]))
        assert (params, macs) == (f"{layer['params']:,}", f"{layer['macs']:,}")
        assert (field, stride) == (f"{layer['receptive_field']} px", f"{layer['stride']} px")
    assert row(text, "total") == [f"{values['params']:,}", f"{values['macs']:,}"]
    assert [claim["paper"] for claim in values["claims"]] == [claim.printed for claim in variant.claims]
    ledger = text[text.index("Claims of the paper") :]
    for claim in values["claims"]:
        assert claim["paper"] in ledger
        assert claim["verdict"] in ledger


def test_show_says_what_each_layer_costs_and_sees(convatlas: Callable) -> None:
    text = convatlas("show", "resnet50").out
    titles = re.split("  +", next(line for line in text.splitlines() if line.startswith("layer ")))
    assert titles == ["layer", "kind", "output", "parameters", "MACs", "activation", "receptive field", "stride"]
    assert row(text, "input") == ["3×224×224"]
    # 7 x 7 x 3 x 64 weights at 112 x 112 places, 4 bytes each.
    assert row(text, "conv1.conv") == ["Conv2d", "64×112×112", "9,408", "118,013,952", "3.1 MiB", "7 px", "2 px"]
    assert row(text, "pool1") == ["MaxPool2d", "64×56×56", "0", "0", "784.0 KiB", "11 px", "4 px"]
    assert row(text, "fc") == ["Linear", "1000", "2,049,000", "2,048,000", "3.9 KiB", "224 px", "224 px"]
    # 25,557,032 parameters.
    assert row(text, "weights at 32 bits") == ["97.5 MiB"]
    assert row(text, "weights at 16 bits") == ["48.7 MiB"]
    assert row(text, "weights at 8 bits") == ["24.4 MiB"]
    # The second convolution reads 64 channels of 224 x 224 and gives as many: 2 x 64 x 224 x 224 numbers.
    assert row(convatlas("show", "vgg16").out, "peak activations at 32 bits") == ["24.5 MiB"]


def test_show_as_json_has_totals_and_layers(as_json: Callable) -> None:
    values = as_json("show", "resnet50")
    own = {"name", "paper", "resolution", "small_below", "small_image_stem", "depth", "layers", "claims", "recipe"}
    assert set(values) == own | TOTALS
    assert set(values["paper"]) == {"authors", "title", "year", "venue", "url"}
    assert values["weight_bytes_32_bits"] == 2 * values["weight_bytes_16_bits"] == 4 * values["weight_bytes_8_bits"]
    assert values["weight_bytes_8_bits"] == values["params"] == 25_557_032
    assert values["training_only_params"] == 0
    assert values["layers"][0] == {
        "name": "conv1.conv",
        "kind": "Conv2d",
        "output_shape": [64, 112, 112],
        "params": 9_408,
        "macs": 118_013_952,
        "activation_bytes": 4 * 64 * 112 * 112,
        "receptive_field": 7,
        "stride": 2,
    }
    assert set(values["claims"][0]) == {"figure", "paper", "source", "here", "verdict", "contradicts", "arithmetic"}


def test_show_says_how_the_paper_trains_the_network_and_where_it_says_so(convatlas: Callable) -> None:
    text = convatlas("show", "resnet20-cifar").out
    _, recipe = text.split("\nRecipe of the paper (--recipe paper)\n")
    assert [re.split("  +", line) for line in recipe.splitlines()] == [
        ["setting", "value", "source"],
        ["optimizer", "sgd", "section 3.4"],
        ["lr", "0.1", "section 4.2"],
        ["schedule", "0.1 for 82 epochs, 0.01 for 41 epochs, 0.001 for 41 epochs", "section 4.2"],
        ["batch size", "128", "section 4.2"],
        ["epochs", "164", "section 4.2: 64,000 iterations of 128, in 50,000 images"],
        ["momentum", "0.9", "section 4.2"],
        ["weight decay", "0.0001", "section 4.2"],
        ["shift", "0.125", "section 4.2"],
        ["flip", "yes", "section 4.2"],
    ]


def test_show_says_which_values_the_paper_does_not_print(convatlas: Callable) -> None:
    text = convatlas("show", "efficientnet-b0").out
    assert row(text, "lr") == ["0.256", "section 5.2"]
    assert row(text, "batch size") == ["4,096", "not printed"]
    assert row(text, "decayed") == ["weights", "not printed"]
    assert row(text, "schedule")[0] == "times 0.97 every 2.4 epochs, after a warmup of 5 epochs"
    # It has claims, and no recipe.
    text = convatlas("show", "lenet1989").out
    assert "Claims of the paper" in text
    assert "Recipe of the paper" not in text


def test_the_recipe_as_json_has_values_to_compute_with(as_json: Callable) -> None:
    rows = {row.pop("what"): row for row in as_json("show", "mobilenet", "--width", 0.5)["recipe"]}
    inception = "Szegedy et al. 2016, section 8"
    assert rows["optimizer"] == {"value": "rmsprop", "printed_in": "section 3.2"}
    assert rows["lr"] == {"value": 0.045, "printed_in": inception}
    staircase = {"kind": "Staircase", "factor": 0.94, "every": 2, "of": 100, "warmup": 0.0}
    assert rows["schedule"] == {"value": staircase, "printed_in": inception}
    assert rows["momentum"] == {"value": 0.9, "printed_in": None}
    assert rows["flip"] == {"value": True, "printed_in": None}
    assert not {"name", "augmentation", "sources", "label_smoothing", "shift"} & set(rows)
    steps = next(row for row in as_json("show", "lenet5")["recipe"] if row["what"] == "schedule")
    assert steps["value"]["rates"][0] == [2, 0.0005]
    assert as_json("show", "lenet1989")["recipe"] == []


def test_show_says_what_only_training_uses(convatlas: Callable, as_json: Callable) -> None:
    # Two classifiers: 1x1 convolutions to 128 channels, these at 4x4 places to 1024 units, 1000 classes.
    heads = sum(channels * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000 for channels in (512, 528))
    assert as_json("show", "googlenet")["training_only_params"] == heads
    words = "training-only parameters"
    assert row(convatlas("show", "googlenet").out, words) == [f"{heads:,}"]
    assert words not in convatlas("show", "alexnet").out


def test_show_takes_scales(as_json: Callable) -> None:
    values = as_json("show", "lenet5", "--width", 2, "--depth", 2, "--resolution", 64)
    assert [layer["name"] for layer in values["layers"]].count("same.0") == 1
    assert values["layers"][0]["output_shape"] == [12, 60, 60]


@every_first
def test_phi_scales_width_depth_and_resolution_of_any_network(variant: Variant, as_json: Callable) -> None:
    table = measure.layers_of(variant.network, variant.spec.compound(1))
    values = as_json("show", variant.name, "--phi", 1)
    assert values["resolution"] == int(variant.spec.resolution * 1.15 + 0.5)
    assert (values["params"], values["macs"]) == (table.params, table.macs)
    assert table.macs > measure.layers_of(variant.network, variant.spec).macs


def test_phi_goes_together_with_the_other_scales(as_json: Callable) -> None:
    spec = ca.find("mobilenet").spec.compound(2, width=0.5, resolution=96)
    values = as_json("show", "mobilenet", "--phi", 2, "--width", 0.5, "--resolution", 96)
    assert values["resolution"] == 96
    assert values["params"] == measure.layers_of(ca.find("mobilenet").network, spec).params
    assert as_json("show", "mobilenet", "--phi", 0) == as_json("show", "mobilenet")


def test_a_claim_is_of_the_network_that_the_paper_prints_at_any_scale(convatlas: Callable, as_json: Callable) -> None:
    scaled = convatlas("show", "mobilenet", "--width", 0.3).out
    assert "\nClaims of the paper, at the paper's scale\n" in scaled
    assert "\nClaims of the paper\n" in convatlas("show", "mobilenet").out
    claims = as_json("show", "mobilenet", "--width", 0.3)["claims"]
    assert claims == as_json("show", "mobilenet")["claims"]


@every_first
def test_show_says_where_the_small_image_stem_begins(variant: Variant, convatlas: Callable, as_json: Callable) -> None:
    limits = variant.spec.small_limits
    text = convatlas("show", variant.name, "--width", 0.25, "--resolution", 28).out
    for limit, skipped in zip(limits, variant.spec.small_stem, strict=True):
        assert f"below {limit} px {skipped}" in text
    assert ("Small images: " in text) == bool(limits)
    largest = max(limits, default=28)
    for resolution in {max(28, largest - 1), largest}:
        shown = as_json("show", variant.name, "--width", 0.25, "--resolution", resolution)
        assert shown["small_image_stem"] == (resolution < max(limits, default=0))


def test_every_family_but_the_small_one_has_a_small_image_stem() -> None:
    assert [variant.name for variant in FIRST if not variant.spec.small_below] == [FIRST[0].name]
    assert all(bool(variant.spec.small_stem) == (variant.spec.small_below > 0) for variant in FIRST)


@pytest.mark.parametrize(
    "names",
    [
        ["lenet5"],
        ["vgg16", "squeezenet"],
        ["resnet50", "alexnet", "efficientnet-b0", "lenet5-modern", "googlenet"],
    ],
    ids=["one", "two", "five"],
)
def test_compare_puts_networks_side_by_side_in_the_order_asked(
    names: list[str], convatlas: Callable, as_json: Callable
) -> None:
    text = convatlas("compare", *names).out
    networks = as_json("compare", *names)["networks"]
    assert text.splitlines()[0].split() == [network["name"] for network in networks] == names
    assert all(set(network) == {"name", "year", "resolution", "depth"} | TOTALS for network in networks)
    assert row(text, "year") == [str(ca.find(name).paper.year) for name in names]
    assert row(text, "parameters") == [f"{network['params']:,}" for network in networks]
    assert row(text, "MACs") == [f"{network['macs']:,}" for network in networks]
    inputs = [ca.find(name).spec for name in names]
    assert row(text, "input") == [f"{spec.in_channels}×{spec.resolution}×{spec.resolution}" for spec in inputs]
    for fact in ("depth", "weights at 32 bits", "peak activations at 32 bits"):
        assert len(row(text, fact)) == len(names)
    for network in networks:
        shown = as_json("show", network["name"])
        assert {key: shown[key] for key in TOTALS} == {key: network[key] for key in TOTALS}


def test_compare_counts_the_layers_that_give_networks_their_names(convatlas: Callable) -> None:
    names = ["vgg11", "vgg16", "vgg19", "resnet18-a", "plain34", "resnet50", "resnet110-preact-cifar"]
    text = convatlas("compare", *names).out
    assert row(text, "depth") == ["11", "16", "19", "18", "34", "50", "110"]


def test_the_drawing_in_the_readme_is_fresh(convatlas: Callable, tmp_path: Path) -> None:
    # It is the museum's.
    names = [exhibit.name for exhibit in EXHIBITS]
    for name, family in zip(names, ca.families(), strict=True):
        assert ca.find(name) in family.variants
    # convatlas compare lenet5 alexnet ... --chart docs/families.svg
    convatlas("compare", *names, "--chart", tmp_path / "families.svg")
    assert FAMILIES.read_bytes() == (tmp_path / "families.svg").read_bytes()


def test_compare_says_what_was_published_of_each_that_has_something(convatlas: Callable) -> None:
    text = convatlas("compare", "alexnet-bn", "alexnet", "googlenet").out
    published = text[text.index("\nPublished\n") :].strip().splitlines()[1:]
    assert [line.split()[0] for line in published] == ["alexnet", "googlenet"]
    assert all(ca.find(line.split()[0]).published in line for line in published)
    assert "Published" not in convatlas("compare", "alexnet-bn", "lenet5-modern").out
    (heads,) = row(text, "training-only parameters")
    assert int(heads.replace(",", "")) > 6_000_000


def test_compare_scales_all_networks_alike(as_json: Callable) -> None:
    networks = as_json("compare", "vgg11", "resnet18", "--resolution", 28, "--width", 0.5, "--phi", 1)["networks"]
    assert [network["resolution"] for network in networks] == [28, 28]
    for network in networks:
        shown = as_json("show", network["name"], "--resolution", 28, "--width", 0.5, "--phi", 1)
        assert {key: network[key] for key in TOTALS} == {key: shown[key] for key in TOTALS}
    (half,), (whole,) = (as_json("compare", "vgg11", *more)["networks"] for more in (["--width", 0.5], []))
    assert half["params"] < whole["params"] / 3
