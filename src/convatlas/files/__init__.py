"""Files that appear whole or not at all, the folders of caches, and downloads with a checksum."""

from convatlas.files.atomic import write as write
from convatlas.files.cache import cache_folder as cache_folder
from convatlas.files.cache import decoded_folder as decoded_folder
from convatlas.files.download import download as download
from convatlas.files.lock import lock as lock
