from .batch import Batch as Batch
from .batch import Loader as Loader
from .choose import make_loader as make_loader
from .device import DeviceLoader as DeviceLoader
from .host import HostLoader as HostLoader
from .sampler import Sampler as Sampler
from .stream import StreamLoader as StreamLoader
