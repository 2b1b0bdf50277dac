# STARK in a container.
#
#   docker build -t stark .                     CPU
#   docker build -t stark --build-arg BASE=nvidia/cuda:13.0.2-runtime-ubuntu24.04 .
#   docker run --rm stark                       style and tests
#   docker run --rm -it --gpus all --shm-size 8g -v "$PWD/data:/stark/data" -v "$PWD/output:/stark/output" stark bash
#
# --gpus all works with either base: PyTorch's package brings the CUDA libraries, the host's driver the rest.
ARG BASE=python:3.11-slim
FROM ${BASE}

# A CUDA base has no Python, the default base has one already. Debian and Ubuntu name libturbojpeg differently.
RUN apt-get update \
    && export DEBIAN_FRONTEND=noninteractive install="apt-get install --yes --no-install-recommends" \
    && (command -v python3 >/dev/null || $install python3 python3-venv) \
    && ($install libturbojpeg0 || $install libturbojpeg) \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home stark && mkdir /stark && chown stark: /stark
USER stark
WORKDIR /stark

# The packages first: this layer stays cached until their list changes.
COPY --chown=stark pyproject.toml install_pytorch17.sh ./
RUN UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 bash install_pytorch17.sh --dev
ENV VIRTUAL_ENV=/stark/.venv PATH=/stark/.venv/bin:$PATH

COPY --chown=stark . .
RUN python -m uv pip install --no-deps --no-build-isolation --editable .
CMD ["bash", "tests/run.sh"]
