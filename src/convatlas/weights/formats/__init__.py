"""The file formats of other libraries' weights, one file a format: `read` gives the tensors by their names."""
