# The reward server, and the small generator for a machine without a GPU. The jobs are in jobs.Dockerfile.
# GPU (default):  docker build -f docker/reward.Dockerfile -t candor-reward .
# CPU only:       add --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
FROM python:3.11.16-slim-bookworm AS compiler
# For the attention kernel in forward/cpp/ when the image is built. On a GPU also at run time: Triton compiles a
# launcher for each kernel, and a server without a compiler has to give up its packed engine.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

FROM compiler AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/candor
COPY pyproject.toml constraints.txt hatch_build.py README.md LICENSE ./
COPY client client
COPY forward forward
COPY jobs jobs
COPY probes probes
COPY service service
RUN /opt/candor/bin/pip install --constraint constraints.txt ./client '.[server]'

FROM compiler
RUN useradd --create-home --uid 10001 candor && mkdir /data && chown candor /data
COPY --from=build /opt/candor /opt/candor
# All files that are downloaded or compiled at run time go to /data, so the rest can be read-only.
ENV PATH=/opt/candor/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/data/huggingface XDG_CACHE_HOME=/data/cache \
    TRITON_CACHE_DIR=/data/triton TORCHINDUCTOR_CACHE_DIR=/data/inductor
USER 10001
WORKDIR /data
EXPOSE 8000
# /livez answers while the model loads. An orchestrator that routes traffic should ask /readyz.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
ENTRYPOINT ["candor"]
CMD ["serve", "--help"]
