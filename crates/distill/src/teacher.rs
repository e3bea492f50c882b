//! Who teaches whom: a row-stochastic matrix over exits.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Which exits' clean answers teach exit `i`: row `i` of a matrix whose rows sum to one
/// (docs/papers/baselines.md section 3).
///
/// NEO-KD's neighbours are `i-1`, `i`, `i+1` (docs/papers/neo-kd.md 2.1). Whether exit `i` itself belongs to
/// the mean was remembered, not read: `include_self = false` is the other reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Teacher {
    /// Exit `i` teaches itself: clean answer to adversarial answer; `own`, or `none` as in the paper's
    /// ablation.
    #[serde(alias = "none")]
    Own,
    /// The mean of the neighbouring exits.
    Neighbours {
        /// Whether exit `i` itself belongs to the mean.
        #[serde(default = "yes")]
        include_self: bool,
    },
    /// The mean of all exits.
    All,
    /// The last exit, as in ARD and SKD.
    Last,
    /// One given exit, from 0.
    Exit {
        /// Which.
        exit: usize,
    },
}

fn yes() -> bool {
    true
}

impl Default for Teacher {
    fn default() -> Self {
        Self::Neighbours { include_self: true }
    }
}

impl Teacher {
    /// The matrix for `exits` exits: row `i` holds the weights of exit `i`'s teachers.
    ///
    /// # Errors
    /// A sentence, if a named exit does not exist or a lone exit would have no neighbour.
    pub fn matrix(&self, exits: usize) -> Result<Vec<Vec<f64>>, String> {
        (0..exits)
            .map(|student| {
                let teachers = self.of(student, exits)?;
                let share = 1.0 / teachers.len() as f64;
                Ok((0..exits).map(|exit| if teachers.contains(&exit) { share } else { 0.0 }).collect())
            })
            .collect()
    }

    fn of(&self, student: usize, exits: usize) -> Result<Vec<usize>, String> {
        match *self {
            Self::Own => Ok(vec![student]),
            Self::All => Ok((0..exits).collect()),
            Self::Last => Ok(vec![exits - 1]),
            Self::Exit { exit } if exit < exits => Ok(vec![exit]),
            Self::Exit { exit } => {
                Err(format!("teacher.exit = {exit}: the network has {exits} exits, numbered 0 to {}", exits - 1))
            }
            Self::Neighbours { include_self } => {
                let near = student.saturating_sub(1)..(student + 2).min(exits);
                let teachers: Vec<usize> = near.filter(|&exit| include_self || exit != student).collect();
                match teachers.is_empty() {
                    true => Err("teacher.include_self = false: a network with one exit has no neighbours".to_string()),
                    false => Ok(teachers),
                }
            }
        }
    }
}

/// Each exit's teacher: the weighted mean of the given answers.
///
/// # Shapes
/// - `answers`: one `[batch, classes]` per exit; output: the same
pub(crate) fn mix(answers: &[Tensor<2>], matrix: &[Vec<f64>]) -> Vec<Tensor<2>> {
    let mix_row = |row: &Vec<f64>| {
        let parts = row.iter().zip(answers).filter(|(weight, _)| **weight > 0.0);
        parts
            .map(|(weight, answer)| answer.clone().mul_scalar(*weight))
            .reduce(|sum, part| sum + part)
            .expect("rows of a teacher matrix sum to one")
    };
    matrix.iter().map(mix_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_with_and_without_self_are_the_two_readings_of_the_paper() {
        let (half, third) = (0.5, 1.0 / 3.0);
        let with = Teacher::default().matrix(3).unwrap();
        assert_eq!(with, [[half, half, 0.0], [third, third, third], [0.0, half, half]]);
        let without = Teacher::Neighbours { include_self: false }.matrix(3).unwrap();
        assert_eq!(without, [[0.0, 1.0, 0.0], [half, 0.0, half], [0.0, 1.0, 0.0]]);
    }

    #[test]
    fn every_row_of_every_teacher_sums_to_one() {
        let teachers = [Teacher::Own, Teacher::default(), Teacher::All, Teacher::Last, Teacher::Exit { exit: 2 }];
        for teacher in teachers {
            for exits in 3..8 {
                for row in teacher.matrix(exits).unwrap() {
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{teacher:?}");
                }
            }
        }
    }

    #[test]
    fn an_exit_that_does_not_exist_is_named() {
        assert!(Teacher::Exit { exit: 3 }.matrix(3).unwrap_err().contains("teacher.exit = 3"));
        assert!(Teacher::Neighbours { include_self: false }.matrix(1).is_err());
    }
}
