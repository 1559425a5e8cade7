from .loaders.batch import Batch as Batch
from .loaders.batch import Loader as Loader
from .loaders.choose import make_loader as make_loader
from .loaders.device import DeviceLoader as DeviceLoader
from .loaders.host import HostLoader as HostLoader
from .loaders.stream import StreamLoader as StreamLoader
from .sampler import Sampler as Sampler
