"""Compile Python's files in the tree for the image; run there by its own Python, without this project.

    python3 compiling.py FOLDER < PATHS

Writes FOLDER/PATH of a .pyc for each path of a .py. They are never compared with their sources: the times
of an image's files mean nothing, and nobody can write there. A plugin cache is written for Twisted as well,
which would load every plugin and try to write one at each start otherwise.
"""

import importlib.util
import os
import pickle
import py_compile
import sys


def compile_all(folder: str, paths: list[str]) -> None:
    for path in paths:
        target = folder + importlib.util.cache_from_source(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        py_compile.compile(
            path,
            cfile=target,
            dfile=path,
            doraise=True,
            optimize=0,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def cache_plugins(folder: str, paths: list[str]) -> None:
    from twisted import plugin

    found = {}
    for path in paths:
        parent, name = os.path.split(path)
        if os.path.basename(parent) == "plugins" and name != "__init__.py":
            module = importlib.import_module(f"twisted.plugins.{name.removesuffix('.py')}")
            found[name.removesuffix(".py")] = plugin._generateCacheEntry(module)
    with open(f"{folder}/dropin.cache", "wb") as cache:
        pickle.dump(dict(sorted(found.items())), cache, protocol=4)


if __name__ == "__main__":
    given = sys.stdin.read().splitlines()
    compile_all(sys.argv[1], given)
    cache_plugins(sys.argv[1], [path for path in given if "/twisted/plugins/" in path])
