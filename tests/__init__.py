"""The tests. A package of its own name, because torch-fidelity installs another that is called `tests`."""
