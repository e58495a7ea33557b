"""What two files of a model and of a run are called: by these, a folder of them is told from a folder of images."""

CARD = "model.json"
RECORD = "run.json"
