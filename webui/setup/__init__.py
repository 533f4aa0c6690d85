"""Everything that installs: the app's own environment, the starter model, the backends, what the tests need.

bootstrap, environment        the first start (standard library only, with lock, ending, terminal and pip*)
pip, pip_progress, pip_failures   running pip, watching it, explaining it
starter                       the starter model
backends, builds, probe       what is installed, what it was built for, whether it starts
commands, test_command        the commands `setup` and `test`
"""
