"""The network of one model: backbones and head as one module, trained step by step."""
