"""Files that appear whole or not at all, what is read from them, the folders of caches, and downloads."""

from convatlas.files.atomic import write as write
from convatlas.files.cache import cache_folder as cache_folder
from convatlas.files.cache import decoded_folder as decoded_folder
from convatlas.files.download import download as download
from convatlas.files.json_values import tuples as tuples
from convatlas.files.lock import lock as lock
from convatlas.files.lock import occupied as occupied
