"""Measurements that are too long for tests; each is a folder with a command of its name."""

from tools.pack import import_pack

import_pack()
