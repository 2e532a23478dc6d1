# docker build -t robustml .
# docker run --rm -v "$PWD/outputs:/home/robustml/outputs" robustml             # the demo; its pages end up in ./outputs
# docker run --rm -v "$PWD/outputs:/home/robustml/outputs" robustml train       # any other verb
# On a GPU: add --gpus all. What pip reads (an index of your own, or of torch without CUDA) is a --build-arg.

FROM python:3.12-slim AS wheel
WORKDIR /source
COPY requirements.lock pyproject.toml README.md LICENSE ./
# The versions of the lock, without its hashes: the wheel built below has none.
RUN sed '/^ *--hash/d; s/ *\\$//' requirements.lock > constraints.txt
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir -c constraints.txt hatchling
COPY configs configs
COPY robustml robustml
RUN python -m hatchling build -t wheel

FROM python:3.12-slim
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
COPY --from=wheel /source/constraints.txt /source/dist/ /wheel/
RUN pip install --no-cache-dir -c /wheel/constraints.txt /wheel/*.whl
RUN useradd --create-home --uid 1000 robustml
WORKDIR /home/robustml
RUN mkdir outputs && chown 1000 outputs
USER 1000
ENTRYPOINT ["robustml"]
CMD ["train", "-m", "experiment=digits_standard,digits_pgd", "trainer.enable_progress_bar=false"]
