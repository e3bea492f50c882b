//! The files compiled into the binary, gzipped as they lie in this folder; `mnist/README.md` states their origin and licence.

static MNIST: [&[u8]; 4] = [
    include_bytes!("../mnist/train-images-idx3-ubyte.gz"),
    include_bytes!("../mnist/train-labels-idx1-ubyte.gz"),
    include_bytes!("../mnist/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../mnist/t10k-labels-idx1-ubyte.gz"),
];

/// The files of an embedded dataset in the order of its manifest entry, gzipped; none if it is not embedded.
pub(crate) fn files(dataset: &str) -> Option<&'static [&'static [u8]]> {
    match dataset {
        "mnist" => Some(&MNIST),
        _ => None,
    }
}
