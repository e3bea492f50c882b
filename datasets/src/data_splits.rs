//! A dataset ready for use.

use crate::split::SplitRecord;
use crate::{ImageSet, Images, Provenance};

/// A dataset ready for use: three disjoint sets and where they come from. In memory, unless it says otherwise.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DataSplits<S = ImageSet> {
    /// Images to train on.
    pub train: S,
    /// Images held out from training: thresholds, early stopping and the choice of models read these.
    pub validation: S,
    /// Images that choose nothing.
    pub test: S,
    /// Names of the classes, in the order of the labels.
    pub class_names: Vec<String>,
    /// Origin of the bytes.
    pub provenance: Provenance,
    /// The table that separates training from validation; none where the two come apart.
    pub split: Option<SplitRecord>,
}

impl<S: Images + 'static> DataSplits<S> {
    /// The same sets, wherever their pixels are.
    #[must_use]
    pub fn boxed(self) -> DataSplits<Box<dyn Images>> {
        let Self { train, validation, test, class_names, provenance, split } = self;
        let (train, validation, test) = (Box::new(train), Box::new(validation), Box::new(test));
        DataSplits { train, validation, test, class_names, provenance, split }
    }
}
