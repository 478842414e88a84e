# One image for every role: `cdp serve`, `cdp worker`, `cdp migrate`, or all of it with `cdp up`.

FROM node:22-slim AS example
WORKDIR /example
COPY examples/web/package.json examples/web/package-lock.json examples/web/.npmrc ./
RUN npm ci --omit=dev

FROM python:3.13-slim AS build
RUN python -m venv /opt/cdp
ENV PATH=/opt/cdp/bin:$PATH
WORKDIR /build
# The packages change less often than the program: this layer stays.
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE* ./
COPY migrations ./migrations
COPY examples/web/index.html ./examples/web/index.html
COPY src ./src
RUN pip install --no-cache-dir --no-deps .
COPY --from=example /example/node_modules/@segment/analytics-next/dist/umd /tmp/umd
RUN target="$(python -c 'import cdp, pathlib; print(pathlib.Path(cdp.__file__).parent)')/example_web/node_modules/@segment/analytics-next/dist" \
    && mkdir -p "$target" && mv /tmp/umd "$target/umd" \
    # Bytecode once, here: the account that runs it may not write.
    && python -m compileall -q /opt/cdp/lib

FROM python:3.13-slim
# Postgres does not run as root, and neither does anything else here.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/cdp cdp
COPY --from=build /opt/cdp /opt/cdp
ENV PATH=/opt/cdp/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    CDP_HOST=0.0.0.0 \
    CDP_PORT=8080 \
    CDP_DATA_DIR=/var/lib/cdp/data
USER cdp
WORKDIR /var/lib/cdp
RUN mkdir data
VOLUME /var/lib/cdp/data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['CDP_PORT']}/health/live\", timeout=2)"]
STOPSIGNAL SIGTERM
# The first process reaps what others leave behind: run it with --init (compose.yaml does).
ENTRYPOINT ["cdp"]
CMD ["up"]
