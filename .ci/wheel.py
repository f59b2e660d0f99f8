"""What a wheel of bnfix must hold, and what it must not: `python .ci/wheel.py WHEEL`."""

import sys
import zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
tops = {name.partition("/")[0] for name in names}
package = {"bnfix", next(top for top in tops if top.endswith(".dist-info"))}
if tops != package:
    sys.exit(f"{sys.argv[1]} holds {sorted(tops - package)} besides the package")
if missing := {"bnfix/__init__.py", "bnfix/py.typed"} - set(names):
    sys.exit(f"{sys.argv[1]} lacks {sorted(missing)}")
