# syntax=docker/dockerfile:1
# Highwater in one small image: `docker build -t highwater .`, then `docker run -p 8080:8080 -v highwater:/data highwater`.

FROM rust:1.95-bookworm AS build
# cmake: native dependencies that are built from source. libssl-dev: TLS to Kafka.
RUN apt-get update && apt-get install -y --no-install-recommends cmake libssl-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches outlive this build; the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin highwater && cp target/release/highwater /usr/local/bin/highwater

FROM debian:bookworm-slim
# curl: the health check. ca-certificates: talking to object stores and webhooks over TLS. libssl3: TLS to Kafka.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 highwater \
    && useradd --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin highwater \
    && install -d -o highwater -g highwater /data
COPY --from=build /usr/local/bin/highwater /usr/local/bin/highwater
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Inside a container loopback reaches nobody: publish the port to choose who may connect, or give HIGHWATER_API_KEYS.
ENV HIGHWATER_DATA_DIR=/data \
    HIGHWATER_HTTP_LISTEN=0.0.0.0:8080 \
    HIGHWATER_ALLOW_INSECURE=true \
    HIGHWATER_LOG_FORMAT=json
# SIGTERM drains: let it (docker stop waits 10 s unless told otherwise).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["curl", "-fsS", "http://127.0.0.1:8080/health/ready"]
ENTRYPOINT ["highwater"]
CMD ["serve"]
