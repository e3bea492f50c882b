//! Confidence thresholds for a budget, from validation images (docs/papers/msdnet.md section 11).

/// The 39 budgets of the public MSDNet code: shares proportional to `q^k`, `q = p / 20`, `p = 1..=39`;
/// small `q` favours early exits.
pub fn budget_shares(exits: usize) -> Vec<Vec<f64>> {
    let shares = (1..40).map(|p| {
        let powers: Vec<f64> = (1..=exits).map(|exit| (f64::from(p) / 20.0).powi(exit as i32)).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    });
    shares.collect()
}

/// The threshold of every exit for one allocation: the confidence of the last image allocated to the
/// exit when those still there are sorted by their confidence at it. The last exit's is minus
/// infinity; an exit whose quota is 0 or never reached gets infinity: nobody leaves there.
///
/// `confidences[exit][image]` are largest probabilities (of the ensemble so far, for a policy that
/// uses it); `shares` sum to one.
pub fn thresholds(confidences: &[Vec<f32>], shares: &[f64]) -> Vec<f64> {
    let exits = confidences.len();
    let images = confidences.first().map_or(0, Vec::len);
    let mut taken = vec![false; images];
    let mut thresholds = vec![f64::INFINITY; exits];
    for exit in 0..exits.saturating_sub(1) {
        let quota = (images as f64 * shares[exit]).floor() as usize;
        let mut left: Vec<f32> =
            (0..images).filter(|&image| !taken[image]).map(|image| confidences[exit][image]).collect();
        left.sort_by(|a, b| b.total_cmp(a));
        if quota > 0 && quota <= left.len() {
            thresholds[exit] = f64::from(left[quota - 1]);
        }
        for (image, taken) in taken.iter_mut().enumerate() {
            *taken |= f64::from(confidences[exit][image]) >= thresholds[exit];
        }
    }
    if let Some(last) = thresholds.last_mut() {
        *last = f64::NEG_INFINITY;
    }
    thresholds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_one_and_lean_from_early_to_late() {
        let shares = budget_shares(4);
        assert_eq!(shares.len(), 39);
        assert!(shares.iter().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        assert!(shares[0][0] > 0.9 && shares[38][3] > shares[38][0]);
        assert!(shares[19].iter().all(|share| (share - 0.25).abs() < 1e-12));
    }

    #[test]
    fn the_last_image_of_a_quota_sets_the_threshold() {
        let confidences = vec![vec![0.9, 0.2, 0.8, 0.4], vec![0.1, 0.7, 0.2, 0.6], vec![0.5; 4]];
        let found = thresholds(&confidences, &[0.5, 0.25, 0.25]);
        // Images 0 and 2 leave at exit 0; of 1 and 3, the surer at exit 1 is image 1.
        assert_eq!(found, [f64::from(0.8_f32), f64::from(0.7_f32), f64::NEG_INFINITY]);
    }

    #[test]
    fn a_quota_of_nothing_or_too_much_lets_nobody_leave() {
        let confidences = vec![vec![0.9, 0.2], vec![0.1, 0.7], vec![0.5; 2]];
        assert_eq!(thresholds(&confidences, &[0.1, 0.1, 0.8])[..2], [f64::INFINITY; 2]);
        let ties = vec![vec![0.5, 0.5, 0.5], vec![0.4, 0.3, 0.2]];
        assert_eq!(thresholds(&ties, &[0.4, 0.6]), [0.5, f64::NEG_INFINITY]);
    }
}
