# spoold in a container: the spooler as a user of its own, its queue in one volume.
#
#   docker build -t spoold .
#   docker run -d --name spoold -v spool:/var/spool/spoold spoold run --relay smtp://relay.example.com:587
#   docker exec -i spoold spoold submit < message.eml
#
# A configuration goes to /etc/spoold/spoold.toml, or comes as SPOOLD_SECTION__KEY in the environment.

# Any image of the Debian family that has python3 (3.11 or newer) with venv.
ARG BASE=python:3.13-slim

# A package index of your own: docker build --secret id=pip.conf,src=FILE .
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /opt/build && python3 -m venv --without-pip /opt/spoold \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/spoold install --require-hashes -r requirements.lock
COPY . .
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/build/bin/pip --python /opt/spoold install --no-index --no-deps /dist/*.whl

FROM ${BASE}
# The ids are fixed so that other containers which share the volume can take the same ones.
RUN groupadd --gid 2525 spoold \
 && useradd --uid 2525 --gid spoold --home-dir /var/spool/spoold --no-create-home --shell /usr/sbin/nologin spoold \
 && install -d -o spoold -g spoold -m 2770 /var/spool/spoold
COPY --from=build /opt/spoold /opt/spoold
ENV PATH=/opt/spoold/bin:$PATH \
    SPOOLD_QUEUE__URL=sqlite:////var/spool/spoold/queue.db
USER 2525:2525
# The database, its -wal and -shm, the doorbell and the leases belong together: one directory, one volume.
VOLUME /var/spool/spoold
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=10s --interval=30s --timeout=5s CMD ["spoold", "status", "--ready"]
ENTRYPOINT ["spoold"]
CMD ["run"]
