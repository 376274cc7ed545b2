# One image for every service: it holds all the binaries, and compose.yaml says which one a service runs.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package core-server --package kafka-gateway --package amqp-gateway --package mqtt-gateway --package polymq \
    && mkdir /out \
    && cp target/release/polymq target/release/polymq-core target/release/polymq-kafka target/release/polymq-amqp target/release/polymq-mqtt /out/

FROM debian:bookworm-slim
# A fixed id, so that a volume keeps its owner from one image to the next.
RUN useradd --system --uid 7401 --home-dir /data --shell /usr/sbin/nologin polymq \
    && mkdir /data && chown polymq /data
COPY --from=build /out/ /usr/local/bin/
USER polymq
VOLUME /data
ENTRYPOINT ["polymq"]
CMD ["serve", "--data", "/data"]
