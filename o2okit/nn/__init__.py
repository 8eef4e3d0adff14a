"""Networks, distributions, optimisers and running statistics on the run axis."""

from o2okit.nn.adam import Adam
from o2okit.nn.conv import StackedConvNet, discrete_network
from o2okit.nn.flows import RealNVP
from o2okit.nn.moments import RunningMoments
from o2okit.nn.policies import (
    DeterministicPolicy,
    GaussianPolicy,
    Policy,
    SoftmaxPolicy,
    TanhGaussianPolicy,
)
from o2okit.nn.products import mean_per_run
from o2okit.nn.saved import Parts, Saved
from o2okit.nn.stacked import Stacked, StackedMLP
from o2okit.nn.vae import VAE

__all__ = [
    "VAE",
    "Adam",
    "DeterministicPolicy",
    "GaussianPolicy",
    "Parts",
    "Policy",
    "RealNVP",
    "RunningMoments",
    "Saved",
    "SoftmaxPolicy",
    "Stacked",
    "StackedConvNet",
    "StackedMLP",
    "TanhGaussianPolicy",
    "discrete_network",
    "mean_per_run",
]
