# docker build -t pipeline-driver .
# docker run --rm pipeline-driver llama3 --prompt "Once upon a time"
# docker run --rm -v "$PWD:/models:ro" pipeline-driver llama3 --model-path /models/MODEL.gguf --prompt "Hello"

FROM python:3.13-slim AS wheel

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# A wheel without the native kernels is for any platform, and not what is wanted here.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && ls /wheels/*-linux_*.whl


FROM python:3.13-slim

COPY --from=wheel /wheels /wheels
# ONNX Runtime's CPU build takes a tenth of the room of the GPU build, which x86-64 would get.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir /wheels/*.whl \
    && pip uninstall --yes onnxruntime-gpu \
    && pip install --no-cache-dir 'onnxruntime>=1.31,<1.32' \
    && useradd --create-home --uid 1000 pipeline

USER 1000
WORKDIR /home/pipeline
ENV RUN_PIPELINE_CACHE=/home/pipeline/cache
# What the bundled model needs, so that a run builds nothing.
RUN run-pipeline warm-cache llama3 --target cpu \
    && run-pipeline llama3 --offline --quiet --prompt "Once upon a time" --max-new-tokens 4

ENTRYPOINT ["run-pipeline"]
CMD ["--help"]
