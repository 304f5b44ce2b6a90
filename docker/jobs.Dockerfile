# Jobs that talk to a reward server. Both targets have the command `candor`:
#   jobs   candor generate, score, bon, pairs: no torch, no weights
#          docker build -f docker/jobs.Dockerfile --target jobs -t candor-jobs .
#   lab    candor rl, probe, eval, and python -m bench: torch and TRL
#          docker build -f docker/jobs.Dockerfile --target lab -t candor-lab .
#          CPU only: add --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
FROM python:3.11.16-slim-bookworm AS source
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/candor
COPY pyproject.toml constraints.txt hatch_build.py README.md LICENSE ./
COPY client client
COPY forward forward
COPY jobs jobs
COPY probes probes
COPY service service

FROM source AS jobs-build
RUN /opt/candor/bin/pip install --constraint constraints.txt ./client '.[jobs]'

FROM source AS lab-build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL}
# For the attention kernel in forward/cpp/, which bench measures.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN /opt/candor/bin/pip install --constraint constraints.txt \
    ./client '.[rl]' aiohttp psutil

FROM python:3.11.16-slim-bookworm AS base
RUN useradd --create-home --uid 10001 candor && mkdir /runs && chown candor /runs
ENV PATH=/opt/candor/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/tmp/huggingface XDG_CACHE_HOME=/tmp/cache \
    TRITON_CACHE_DIR=/tmp/triton TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
USER 10001
WORKDIR /app
ENTRYPOINT ["candor"]
CMD ["--help"]

FROM base AS lab
# On a GPU, Triton compiles a launcher for each kernel at run time.
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
USER 10001
COPY --from=lab-build /opt/candor /opt/candor
COPY bench bench

# This target is last, so that a build without --target makes it.
FROM base AS jobs
COPY --from=jobs-build /opt/candor /opt/candor
