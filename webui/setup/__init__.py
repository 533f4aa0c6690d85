"""Everything that installs: the app's own environment, the starter model, the backends, what the tests need.

bootstrap, environment        the first start (standard library only, with lock, ending, terminal and pip*)
pip, pip_progress, pip_failures   running pip, watching it, explaining it
starter                       the starter model
backends, builds, condition   what is installed, what it was built for, what is wrong with it
published, sources, target    which ready builds there are, where they come from, what is installed into
choice, plan, plan_words      which build suits the machine, and what installing it would do: pure
installing, installations     doing it, and keeping it going while pages come and go
kept                          the version before, put back where the new one fails or when it is asked for
probe, trial, tiny_model      whether an engine starts, and whether it runs a model
commands, test_command        the commands `setup` and `test`
"""
