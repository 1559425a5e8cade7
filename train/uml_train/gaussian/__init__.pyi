from .autoencoder import Training as Training
from .experiment import ARMS as ARMS
from .experiment import GaussianJob as GaussianJob
from .experiment import held_out_error as held_out_error
from .world import World as World
