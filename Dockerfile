# convatlas for the CPU. Not built yet: no Docker ran on the machine where it was written.
#   docker build --tag convatlas .
#   docker run --rm --volume "$PWD:/out" convatlas train lenet5
#   docker run --rm --volume "$PWD:/out" --volume "$HOME/photos:/photos:ro" convatlas train resnet18 --data /photos
FROM python:3.13-slim

COPY constraints.txt LICENSE README.md pyproject.toml /source/
COPY src /source/src
# PyPI's PyTorch for Linux brings gigabytes of CUDA.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    --constraint /source/constraints.txt '/source[compress,heic]'

# Anybody may write there, so that `docker run --user "$(id -u):$(id -g)"` gives the files an owner outside.
RUN useradd --create-home convatlas && install --directory --mode 1777 /data /out
USER convatlas
# Standard data sets and decoded images; runs are written to /out/runs.
ENV CONVATLAS_DATA=/data CONVATLAS_CACHE=/data/decoded
VOLUME ["/data", "/out"]
WORKDIR /out
ENTRYPOINT ["convatlas"]
CMD ["--help"]
