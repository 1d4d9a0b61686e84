# An image of svcdns that replaces the image of CoreDNS. BASE needs Python 3.11 or newer with venv,
# and setcap (Debian's libcap2-bin) or apt to install it.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN command -v setcap >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends libcap2-bin; }
WORKDIR /build
# --copies: the file capability below applies to this copy of the interpreter only
RUN python3 -m venv --copies /app && ln -sf python /app/bin/python3 && rm -f /app/bin/python3.*
COPY requirements.lock requirements-audit.lock ./
RUN /app/bin/python -m pip install --no-cache-dir --no-compile --require-hashes -r requirements.lock
# the libraries of plugins that the image has only on request: --build-arg EXTRAS=route53
ARG EXTRAS=
COPY requirements-azure.lock requirements-clouddns.lock requirements-route53.lock ./
RUN for extra in $(echo "${EXTRAS}" | tr ',' ' '); do \
      /app/bin/python -m pip install --no-cache-dir --no-compile --require-hashes -r "requirements-$extra.lock" || exit 1; \
    done
# the tool that lists what the image contains, in an environment of its own
RUN python3 -m venv /audit && /audit/bin/python -m pip install --no-cache-dir --require-hashes -r requirements-audit.lock
COPY pyproject.toml README.md LICENSE ./
COPY svcdns ./svcdns
RUN /app/bin/python -m pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
 && /app/bin/python -m pip uninstall --yes setuptools pip \
 && /audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o /app/sbom.cdx.json /app/bin/python \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /app/lib \
 && sed -i '1s|/python$|/python -I|' /app/bin/svcdns \
 && ln -s /app/bin/svcdns /app/bin/coredns \
 && setcap cap_net_bind_service=+ep /app/bin/python

FROM ${BASE}
ARG REVISION=
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SVCDNS_REVISION=$REVISION
COPY --from=build /app /app
# The root file system is read-only at run time, so the image must contain the bytecode of the standard library.
# Some base images do not have it.
RUN python3 -m compileall -q -x '/(test|tests|idlelib|lib2to3|tkinter|turtledemo|site-packages|dist-packages)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && ln -s /app/bin/svcdns /coredns
USER 65532:65532
WORKDIR /
EXPOSE 53/udp 53/tcp 8080/tcp 8181/tcp 9153/tcp
ENTRYPOINT ["/coredns"]
