"""Health checks: what a person would look at first when something does not work, each with one sentence and a fix.

check           what a check says, and what the checks are about
backends        engines, the packages they are made of, how their loads went
drivers         GPUs, and whether their drivers suffice for the builds that are installed
machine         memory, disks, the clock
packages        Python and the packages of the app
files           rights, databases, what was left over, logs
models          the model files
configuration   settings, what is saved per model, the port
evidence        what the long checks found, kept for the quick ones
examination     the long checks: test models through every engine, checksums, samples of weights
actions         what mends what the checks complain of

The quick checks only look; nothing is changed, loaded or downloaded. They need no running server, so that `doctor` can
be asked when nothing starts.
"""

from webui.diagnostics.health.check import Check, CheckState, HealthFacts, worst
from webui.diagnostics.health.checks import gather, run_checks
from webui.diagnostics.health.evidence import Evidence

__all__ = ["Check", "CheckState", "Evidence", "HealthFacts", "gather", "run_checks", "worst"]
