# An image of svcdns that replaces the image of CoreDNS.
# DEBIAN is a Debian 12 with apt. From its packages, the stage `root` makes what the image stands on.
# A BASE with Python 3.11 or newer replaces that. BUILDER must then have the same Python, and venv and setcap, or apt.
ARG DEBIAN=docker.io/library/debian:bookworm-slim
ARG BUILDER=${DEBIAN}
ARG BASE=scratch

FROM ${DEBIAN} AS root
ARG BASE
COPY tools/image.py ./
RUN mkdir /files; [ "${BASE}" != scratch ] || { apt-get update \
 && apt-get install --yes --no-install-recommends python3 && python3 image.py root /files; }

FROM ${BUILDER} AS build
ARG BASE
RUN { command -v setcap && command -v strip && python3 -m ensurepip --version; } >/dev/null || { apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv libcap2-bin binutils; }
WORKDIR /build
# --copies: the file capability below applies to this copy of the interpreter only
RUN python3 -m venv --copies /app && ln -sf python /app/bin/python3 && rm -f /app/bin/python3.*
COPY requirements.lock requirements-audit.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /app/bin/python -m pip install --no-compile --require-hashes -r requirements.lock
# the libraries of plugins that the image has only on request: --build-arg EXTRAS=route53
ARG EXTRAS=
COPY requirements-azure.lock requirements-clouddns.lock requirements-route53.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    for extra in $(echo "${EXTRAS}" | tr ',' ' '); do \
      /app/bin/python -m pip install --no-compile --require-hashes -r "requirements-$extra.lock" || exit 1; \
    done
# the tool that lists what the image contains, in an environment of its own
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /audit && /audit/bin/python -m pip install --require-hashes -r requirements-audit.lock
COPY pyproject.toml README.md LICENSE ./
COPY tools/image.py ./tools/
COPY svcdns ./svcdns
RUN /app/bin/python -m pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
 && /app/bin/python -m pip uninstall --yes setuptools pip \
 && /audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o /app/sbom.cdx.json /app/bin/python \
 && PYTHONHASHSEED=0 python3 tools/image.py packages /app/lib/python3*/site-packages \
 && sed -i '1s|/python$|/python -I|' /app/bin/svcdns \
 && ln -s svcdns /app/bin/coredns \
 && find /app/bin -type f ! -name python ! -name svcdns -delete \
 && mkdir /image && mv /app /image && ln -s /app/bin/svcdns /image/coredns \
 && { [ "${BASE}" = scratch ] || python3 tools/image.py library /image; } \
 && setcap cap_net_bind_service=+ep /image/app/bin/python

# a stage of its own, so that the files of the base are a layer of their own
FROM ${BASE} AS base
COPY --from=root /files /

FROM base
COPY --from=build /image /
ARG VERSION=
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="svcdns" \
      org.opencontainers.image.description="Cluster DNS for Kubernetes: a drop-in for CoreDNS" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
ENV PATH=/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SVCDNS_REVISION=${REVISION}
USER 65532:65532
WORKDIR /
EXPOSE 53/udp 53/tcp 8080/tcp 8181/tcp 9153/tcp
ENTRYPOINT ["/coredns"]
