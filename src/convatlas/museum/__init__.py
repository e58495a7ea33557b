"""The museum: static pages of the networks, made from what the package computes, and a server to look at them."""

from convatlas.museum.server import MuseumServer as MuseumServer
from convatlas.museum.site import Built as Built
from convatlas.museum.site import build as build
