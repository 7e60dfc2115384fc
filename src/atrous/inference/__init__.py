"""From a network and a picture to labels, confidence and files."""

from atrous.core.registry import Registry

BACKENDS = Registry("backend", (("torch", "atrous.inference.backends.torch_eager:TorchEager"),))
"""What can run a network."""
