"""Files that appear whole or not at all, locks, the folders of caches, downloads, and how they tell their progress."""

from convatlas.files.atomic import put_folder as put_folder
from convatlas.files.atomic import write as write
from convatlas.files.cache import cache_folder as cache_folder
from convatlas.files.cache import decoded_folder as decoded_folder
from convatlas.files.download import download as download
from convatlas.files.json_values import tuples as tuples
from convatlas.files.lock import LockedError as LockedError
from convatlas.files.lock import clear_lock as clear_lock
from convatlas.files.lock import lock as lock
from convatlas.files.lock import occupied as occupied
from convatlas.files.progress import SILENT as SILENT
from convatlas.files.progress import ProgressCallback as ProgressCallback
from convatlas.files.regular import num_bytes as num_bytes
from convatlas.files.regular import read as read
