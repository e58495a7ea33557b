"""The figures that papers print of a family, by variant, where they would fill the family's own file."""
