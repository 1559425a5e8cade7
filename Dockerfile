# An image with the command `uml`. See docs/how-to/install.md.
#   docker build -t uml .                              for CPUs
#   docker build --build-arg DEVICE=cuda -t uml:cuda . with the CUDA build of torch
FROM python:3.11-slim

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# torch and torchvision of one build; on Linux the plain packages are the CUDA build.
RUN case "$DEVICE" in \
      cpu) pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) pip install torch torchvision ;; \
      *) echo "DEVICE is $DEVICE; it must be cpu or cuda" >&2; exit 1 ;; \
    esac

COPY pyproject.toml README.md LICENSE /src/
COPY uml_cache /src/uml_cache
COPY data_manifests /src/data_manifests
COPY extract /src/extract
COPY train /src/train
COPY evaluate /src/evaluate
RUN pip install '/src[hub,onnx,onnxruntime]' && rm -r /src && uml --version

# Stores, runs and downloaded weights stay in the folder that is mounted here.
ENV HF_HOME=/data/.cache/huggingface XDG_CACHE_HOME=/data/.cache
WORKDIR /data
ENTRYPOINT ["uml"]
CMD ["--help"]
