# svcdns as an image that takes the place of CoreDNS's. BASE needs Python 3.11 or newer with venv, and setcap (from Debian's libcap2-bin) or apt to get it.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN command -v setcap >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends libcap2-bin; }
WORKDIR /build
# --copies: the interpreter is a file of our own, for its capability not to reach beyond svcdns
RUN python3 -m venv --copies /app && ln -sf python /app/bin/python3 && rm -f /app/bin/python3.*
COPY requirements.lock ./
RUN /app/bin/python -m pip install --no-cache-dir --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY svcdns ./svcdns
RUN /app/bin/python -m pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
 && /app/bin/python -m pip uninstall --yes setuptools pip \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /app/lib \
 && sed -i '1s|/python$|/python -I|' /app/bin/svcdns \
 && ln -s /app/bin/svcdns /app/bin/coredns \
 && setcap cap_net_bind_service=+ep /app/bin/python

FROM ${BASE}
ARG REVISION=
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SVCDNS_REVISION=$REVISION
COPY --from=build /app /app
# The root file system is read-only in use: bytecode of the standard library, which some bases leave out, has to be there too.
RUN python3 -m compileall -q -x '/(test|tests|idlelib|lib2to3|tkinter|turtledemo|site-packages|dist-packages)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && ln -s /app/bin/svcdns /coredns
USER 65532:65532
WORKDIR /
EXPOSE 53/udp 53/tcp 8080/tcp 8181/tcp 9153/tcp
ENTRYPOINT ["/coredns"]
