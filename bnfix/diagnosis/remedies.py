"""The calls that mend most of what a diagnosis finds."""

from __future__ import annotations

from bnfix.remedy import Remedy, Verb

FREEZE = Remedy(Verb.FREEZE, ())
RECALIBRATE = Remedy(Verb.RECALIBRATE)
RECALIBRATE_JUDGED = Remedy(Verb.RECALIBRATE, labels=True)
RECALIBRATE_SOME = Remedy(Verb.RECALIBRATE, ())
