//! Running a network that really stops: blocks after an image's exit are not run for it.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};

use crate::policy::{Answer, Policy};
use crate::{Frozen, MultiExit};

/// Answers of a batch under a policy. After each stage the images that leave are taken out and the
/// rest goes on as a smaller batch; the trunk stops when nobody is left.
///
/// # Shapes
/// - `pixels`: `[batch, channels, height, width]`, values in `[0, 1]`; output: one answer per image
///
/// # Errors
/// What the device said if it could not be read.
pub fn predict<M: MultiExit>(model: &Frozen<M>, pixels: Tensor<4>, policy: &Policy) -> Result<Vec<Answer>, String> {
    let (network, exits, device) = (model.network(), model.exits(), pixels.device());
    let mut walks: Vec<_> = (0..pixels.dims()[0]).map(|image| (image, policy.walk(exits))).collect();
    let mut answers = vec![None; walks.len()];
    let mut features = network.enter(pixels);
    for stage in 0..exits {
        features = network.advance(features, stage);
        let probabilities = softmax(network.head(&features, stage), 1);
        let rows: Vec<f32> = probabilities.into_data().try_into_vec().map_err(|error| format!("{error:?}"))?;
        let mut staying = Vec::new();
        let mut kept = Vec::new();
        for (row, (image, mut walk)) in walks.into_iter().enumerate() {
            match walk.visit(&rows[row * model.classes()..][..model.classes()]) {
                Some(answer) => answers[image] = Some(answer),
                None => {
                    kept.push(row as i64);
                    staying.push((image, walk));
                }
            }
        }
        if staying.is_empty() {
            break;
        }
        if kept.len() < rows.len() / model.classes() {
            let count = kept.len();
            features = features.select(&Tensor::<1, Int>::from_data(TensorData::new(kept, [count]), &device));
        }
        walks = staying;
    }
    Ok(answers.into_iter().flatten().collect())
}
