//! Networks whose worst perturbation can be written down: attacks find it.

use neokd_attack::{
    Aim, Apgd, ApgdCe, ApgdMargin, ApgdT, Attack, AutoAttack, Batch, Criterion, Cw, DeepFool, Fab, Fate, Fgsm, Norm,
    Objective, Pgd, Scenario, Search, Square, Threat, margin, run,
};
use neokd_model::{Frozen, MultiExit};

use crate::networks::{Numbers, Tiny, answered, batch, host, images, labels};

const SHAPE: [usize; 3] = [1, 4, 4];
const PIXELS: usize = 16;
const NORMS: [Norm; 2] = [Norm::Linf, Norm::L2];

fn pgd(steps: usize, step_size: f64) -> Search {
    Search::Pgd(Pgd { steps, step_size, random_start: false, restarts: 1 })
}

fn apgd(steps: usize) -> Search {
    ApgdCe(Apgd { steps, restarts: 1 }).into()
}

fn apgd_on_the_margin(steps: usize) -> Search {
    ApgdMargin(Apgd { steps, restarts: 1 }).into()
}

/// Two exits with two classes each, the second the first with its sign turned.
fn both_signs(seed: u64) -> Tiny {
    let values = Numbers(seed).list(2 * PIXELS);
    let bias = -0.5 * values.chunks(2).map(|pair| pair[1] - pair[0]).sum::<f32>();
    let turned: Vec<f32> = values.iter().map(|value| -value).collect();
    Tiny::new(SHAPE, 2).linear(&values, &[0.0, bias]).linear(&turned, &[0.0, -bias])
}

/// Size of a vector in the norm dual to the threat's: what a unit of epsilon gains.
fn dual(vector: &[f32], norm: Norm) -> f64 {
    let values = vector.iter().map(|value| f64::from(*value));
    match norm {
        Norm::Linf => values.map(f64::abs).sum(),
        Norm::L2 => values.map(|value| value * value).sum::<f64>().sqrt(),
    }
}

fn margins(model: &Frozen<Tiny>, pixels: &burn::tensor::Tensor<4>, of: &Batch, exit: usize) -> Vec<f64> {
    let values = margin(&model.forward_to(pixels.clone(), exit), &of.labels);
    host(&values).into_iter().map(f64::from).collect()
}

fn found(model: &Frozen<Tiny>, of: &Batch, exit: usize, search: Search, threat: &Threat) -> Vec<f64> {
    let outcome = run(&Scenario::new(model, of, threat, 5), &Attack::new(Objective::Single(exit), search)).unwrap();
    margins(model, &outcome.adversarial.pixels, of, exit)
}

#[test]
fn gradient_attacks_find_the_worst_case_of_a_linear_network() {
    let model = both_signs(3);
    let weights = host(&model.forward_to(batch(identity(), SHAPE, &[0; PIXELS]).pixels, 0));
    let zero = host(&model.forward_to(batch(vec![0.0; PIXELS], SHAPE, &[0]).pixels, 0));
    let slope: Vec<f32> = weights.chunks(2).map(|row| (row[1] - zero[1]) - (row[0] - zero[0])).collect();
    let frozen = Frozen::new(&model);
    for (exit, norm) in [(0, NORMS[0]), (1, NORMS[0]), (0, NORMS[1]), (1, NORMS[1])] {
        let of = answered(&model, 24, 7, exit);
        let threat = Threat { norm, epsilon: if norm == Norm::Linf { 0.1 } else { 0.25 } };
        let clean = margins(&frozen, &of.pixels, &of, exit);
        let worst: Vec<f64> = clean.iter().map(|clean| clean + threat.epsilon * dual(&slope, norm)).collect();
        for search in [
            Fgsm {}.into(),
            pgd(10, threat.epsilon / 4.0),
            Search::Cw(Cw(Pgd { steps: 40, step_size: threat.epsilon / 4.0, random_start: true, restarts: 1 })),
        ] {
            close(&format!("{norm:?} exit {exit} {search:?}"), &found(&frozen, &of, exit, search, &threat), &worst);
        }
        // Auto-PGD stops caring once an image is broken, so it is compared where none can be.
        let small = Threat { epsilon: 0.9 * smallest(&clean) / dual(&slope, norm), ..threat };
        let worst: Vec<f64> = clean.iter().map(|clean| clean + small.epsilon * dual(&slope, norm)).collect();
        for search in [apgd(50), apgd_on_the_margin(50)] {
            let ours = found(&frozen, &of, exit, search, &small);
            close(&format!("{norm:?} exit {exit} {search:?}"), &ours, &worst);
        }
    }
}

#[test]
fn gradient_attacks_find_the_worst_case_of_a_quadratic_network() {
    let (centre, radius) = (0.3f32, 1.6f32);
    let model = outside_of_a_sphere(centre, radius);
    let frozen = Frozen::new(&model);
    // All pixels lie above the centre by more than epsilon, so the farthest corner is unique.
    let pixels: Vec<f32> = images(16, SHAPE, 2).into_iter().map(|value| value + 0.05).collect();
    let of = batch(pixels.clone(), SHAPE, &[0; 16]);
    for norm in NORMS {
        let threat = Threat { norm, epsilon: if norm == Norm::Linf { 0.06 } else { 0.2 } };
        let worst: Vec<f64> = pixels.chunks(PIXELS).map(|image| farthest(image, centre, radius, &threat)).collect();
        assert!(worst.iter().all(|margin| *margin < 0.0), "{norm:?}: an image can be broken: {worst:?}");
        for search in [Fgsm {}.into(), pgd(20, threat.epsilon / 4.0), apgd(100), apgd_on_the_margin(100)] {
            close(&format!("{norm:?} {search:?}"), &found(&frozen, &of, 0, search, &threat), &worst);
        }
    }
}

/// The second class wins outside a sphere around an image of one grey: its lead is |x - centre|^2 - radius^2.
fn outside_of_a_sphere(centre: f32, radius: f32) -> Tiny {
    let squares: Vec<f32> = [0.0, 1.0].repeat(PIXELS);
    let linear: Vec<f32> = [0.0, -2.0 * centre].repeat(PIXELS);
    let bias = PIXELS as f32 * centre * centre - radius * radius;
    Tiny::new(SHAPE, 2).exit(&squares, &linear, &[0.0, bias])
}

/// Euclidean distance from an image inside to that sphere.
fn to_sphere(image: &[f32], centre: f32, radius: f32) -> f64 {
    let inside = image.iter().map(|value| f64::from(value - centre).powi(2)).sum::<f64>().sqrt();
    f64::from(radius) - inside
}

/// The largest lead of the second class in the ball, all pixels being above the centre.
fn farthest(image: &[f32], centre: f32, radius: f32, threat: &Threat) -> f64 {
    let offsets = image.iter().map(|value| f64::from(*value) - f64::from(centre));
    let square = match threat.norm {
        Norm::Linf => offsets.map(|offset| (offset + threat.epsilon).powi(2)).sum::<f64>(),
        Norm::L2 => (offsets.map(|offset| offset * offset).sum::<f64>().sqrt() + threat.epsilon).powi(2),
    };
    square - f64::from(radius).powi(2)
}

/// Leads of all classes over the label, and what a unit of epsilon gains for each.
fn leads(model: &Tiny, of: &Batch, norm: Norm) -> Vec<Vec<(f64, f64)>> {
    let classes = model.classes();
    let rows = host(&model.forward_to(batch(identity(), SHAPE, &[0; PIXELS]).pixels, 0));
    let zero = host(&model.forward_to(batch(vec![0.0; PIXELS], SHAPE, &[0]).pixels, 0));
    let logits = host(&model.forward_to(of.pixels.clone(), 0));
    let lead = |image: usize, label: usize, class: usize| {
        let row = &logits[image * classes..][..classes];
        let slope: Vec<f32> = (0..PIXELS)
            .map(|pixel| (rows[pixel * classes + class] - zero[class]) - (rows[pixel * classes + label] - zero[label]))
            .collect();
        (f64::from(row[class] - row[label]), dual(&slope, norm))
    };
    let others = |label: usize| (0..classes).filter(move |class| *class != label);
    labels(of)
        .iter()
        .enumerate()
        .map(|(image, &label)| others(label).map(|class| lead(image, label, class)).collect())
        .collect()
}

#[test]
fn targeted_attacks_break_exactly_what_can_be_broken() {
    let model = Tiny::random(SHAPE, 5, 1, 21);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 64, 9, 0));
    for norm in NORMS {
        let leads = leads(&model, &of, norm);
        let epsilon = median(leads.iter().map(|leads| distance(leads)).collect());
        let threat = Threat { norm, epsilon };
        for search in
            [ApgdT { steps: 60, restarts: 1, targets: 9 }.into(), Fab { steps: 60, restarts: 1, targets: 9 }.into()]
        {
            let ours = found(&frozen, &of, 0, search, &threat);
            for (image, (margin, leads)) in ours.iter().zip(&leads).enumerate() {
                // Within half a percent of the boundary either answer is right.
                if (distance(leads) / epsilon - 1.0).abs() > 0.005 {
                    let breakable = distance(leads) < epsilon;
                    assert_eq!(*margin > 0.0, breakable, "{norm:?} {search:?} image {image}: {margin}");
                }
            }
        }
    }
}

const DEEPFOOL: DeepFool = DeepFool { steps: 50, targets: 9, overshoot: 0.02 };

#[test]
fn deepfool_breaks_exactly_what_can_be_broken_and_ends_just_beyond_the_boundary() {
    let model = Tiny::random(SHAPE, 5, 1, 21);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 64, 9, 0));
    for norm in NORMS {
        let leads = leads(&model, &of, norm);
        let epsilon = median(leads.iter().map(|leads| distance(leads)).collect());
        let ours = found(&frozen, &of, 0, DEEPFOOL.into(), &Threat { norm, epsilon });
        for (image, (margin, leads)) in ours.iter().zip(&leads).enumerate() {
            if (distance(leads) / epsilon - 1.0).abs() > 0.005 {
                assert_eq!(*margin > 0.0, distance(leads) < epsilon, "{norm:?} image {image}: {margin}");
            }
        }
        let far = Threat { norm, epsilon: 10.0 };
        let (pixels, _) = Search::from(DEEPFOOL).search(&Scenario::new(&frozen, &of, &far, 0), &Aim::Exit(0)).unwrap();
        for (ours, leads) in host(&far.sizes(&of.pixels, &pixels)).into_iter().zip(&leads) {
            let theirs = distance(leads);
            let beyond = f64::from(ours) / theirs - 1.0;
            assert!((beyond - DEEPFOOL.overshoot).abs() < 0.001, "{norm:?}: {ours} instead of {theirs}");
        }
    }
}

/// From inside, a sphere's linearised boundary lies beyond it: one step of Newton's method, made longer and cut
/// off at the pixel cube, ends the way.
#[test]
fn deepfool_takes_newtons_step_to_a_sphere() {
    let (centre, radius) = (0.5f32, 1.2f32);
    let model = outside_of_a_sphere(centre, radius);
    let pixels = images(16, SHAPE, 12);
    let (frozen, of) = (Frozen::new(&model), batch(pixels.clone(), SHAPE, &[0; 16]));
    let far = Threat::l2(10.0);
    let (moved, _) = Search::from(DEEPFOOL).search(&Scenario::new(&frozen, &of, &far, 0), &Aim::Exit(0)).unwrap();
    for (ours, image) in host(&far.sizes(&of.pixels, &moved)).into_iter().zip(pixels.chunks(PIXELS)) {
        let from = f64::from(radius) - to_sphere(image, centre, radius);
        let step = (1.0 + DEEPFOOL.overshoot) * (f64::from(radius).powi(2) - from * from) / (2.0 * from);
        let changes = image.iter().map(|&value| {
            let value = f64::from(value);
            (value + (value - f64::from(centre)) * step / from).clamp(0.0, 1.0) - value
        });
        let theirs = changes.map(|change| change * change).sum::<f64>().sqrt();
        assert!((f64::from(ours) / theirs - 1.0).abs() < 0.001, "{ours} instead of {theirs}");
    }
}

#[test]
fn distances_of_fab_are_within_one_percent() {
    let model = Tiny::random(SHAPE, 5, 1, 22);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 64, 4, 0));
    let fab = Fab { steps: 50, restarts: 1, targets: 4 };
    for norm in NORMS {
        let threat = Threat { norm, epsilon: 0.1 };
        let nearest = fab.nearest(&Scenario::new(&frozen, &of, &threat, 0), &Aim::Exit(0)).unwrap();
        for (ours, leads) in host(&nearest.distances).into_iter().zip(leads(&model, &of, norm)) {
            let theirs = distance(&leads);
            assert!((f64::from(ours) / theirs - 1.0).abs() < 0.01, "{norm:?}: {ours} instead of {theirs}");
        }
        let broken = margins(&frozen, &nearest.pixels, &of, 0);
        assert!(broken.iter().all(|margin| *margin > 0.0), "{norm:?}: a nearest point that is not broken");
    }
}

#[test]
fn distances_of_fab_on_a_sphere_are_within_one_percent() {
    let (centre, radius) = (0.5f32, 1.2f32);
    let model = outside_of_a_sphere(centre, radius);
    let pixels = images(16, SHAPE, 12);
    let of = batch(pixels.clone(), SHAPE, &[0; 16]);
    let fab = Fab { steps: 100, restarts: 1, targets: 9 };
    let threat = Threat::l2(0.5);
    let nearest = fab.nearest(&Scenario::new(&Frozen::new(&model), &of, &threat, 0), &Aim::Exit(0)).unwrap();
    for (ours, image) in host(&nearest.distances).into_iter().zip(pixels.chunks(PIXELS)) {
        let theirs = to_sphere(image, centre, radius);
        assert!((f64::from(ours) / theirs - 1.0).abs() < 0.01, "{ours} instead of {theirs}");
    }
}

/// Square on images whose smallest adversarial perturbation is known: it has to break 95 % of those that
/// have one shorter than epsilon, and none that has not.
fn breaks_what_can_be_broken(what: &str, model: &Tiny, of: &Batch, threat: &Threat, distances: &[f64]) {
    let search = Search::Square(Square { queries: 5000, share: 0.8, restarts: 1 });
    let ours = found(&Frozen::new(model), of, 0, search, threat);
    let within: Vec<usize> = (0..of.len()).filter(|&image| distances[image] < threat.epsilon).collect();
    let broken = within.iter().filter(|&&image| ours[image] > 0.0).count();
    assert!(within.len() > of.len() / 3 && within.len() < of.len(), "{what}: {} of {}", within.len(), of.len());
    assert!(broken * 100 >= within.len() * 95, "{what}: {broken} of {} within epsilon", within.len());
    let beyond = (0..of.len()).filter(|&image| distances[image] > 1.001 * threat.epsilon);
    assert!(beyond.into_iter().all(|image| ours[image] < 0.0), "{what}: broke what cannot be broken");
}

#[test]
fn square_breaks_95_percent_of_what_can_be_broken_on_linear_networks() {
    for seed in [23, 24, 25] {
        let model = Tiny::random(SHAPE, 5, 1, seed);
        let of = answered(&model, 64, 5, 0);
        for norm in NORMS {
            let distances: Vec<f64> = leads(&model, &of, norm).iter().map(|leads| distance(leads)).collect();
            let threat = Threat { norm, epsilon: 1.2 * median(distances.clone()) };
            breaks_what_can_be_broken(&format!("{norm:?} seed {seed}"), &model, &of, &threat, &distances);
        }
    }
}

#[test]
fn square_breaks_95_percent_of_what_can_be_broken_on_spheres() {
    let (centre, radius) = (0.5f32, 1.2f32);
    let model = outside_of_a_sphere(centre, radius);
    let of = batch(images(64, SHAPE, 12), SHAPE, &[0; 64]);
    let distances: Vec<f64> = host(&of.pixels).chunks(PIXELS).map(|image| to_sphere(image, centre, radius)).collect();
    let threat = Threat::l2(median(distances.clone()));
    breaks_what_can_be_broken("sphere", &model, &of, &threat, &distances);
}

#[test]
fn autoattack_breaks_exactly_what_can_be_broken_and_names_the_member() {
    let model = Tiny::random(SHAPE, 5, 1, 24);
    let (frozen, of) = (Frozen::new(&model), answered(&model, 48, 6, 0));
    let leads = leads(&model, &of, Norm::Linf);
    let epsilon = median(leads.iter().map(|leads| distance(leads)).collect());
    let mut set = AutoAttack::standard(5);
    set.members[3] = Search::Square(Square { queries: 200, share: 0.8, restarts: 1 });
    let standing = set.run(&Scenario::new(&frozen, &of, &Threat::linf(epsilon), 3), &Criterion::Exit(0)).unwrap();
    for (fate, leads) in standing.fates.iter().zip(&leads) {
        if (distance(leads) / epsilon - 1.0).abs() > 0.005 {
            assert_eq!(matches!(fate, Fate::Broken(_)), distance(leads) < epsilon);
        }
    }
    let broken: u64 = standing.spent.iter().map(|spent| spent.broken).sum();
    assert_eq!(broken as usize, standing.fates.iter().filter(|fate| **fate != Fate::Robust).count());
    assert!(standing.spent.windows(2).all(|pair| pair[1].attacked == pair[0].attacked - pair[0].broken));
}

/// Distance of an image to the nearest boundary of a linear network.
fn distance(leads: &[(f64, f64)]) -> f64 {
    leads.iter().map(|(lead, gain)| -lead / gain).fold(f64::INFINITY, f64::min)
}

/// One image per pixel, white there and black elsewhere.
fn identity() -> Vec<f32> {
    (0..PIXELS * PIXELS).map(|at| if at % (PIXELS + 1) == 0 { 1.0 } else { 0.0 }).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn smallest(margins: &[f64]) -> f64 {
    margins.iter().map(|margin| -margin).fold(f64::INFINITY, f64::min)
}

fn close(what: &str, ours: &[f64], theirs: &[f64]) {
    for (our, their) in ours.iter().zip(theirs) {
        assert!((our - their).abs() < 1e-4, "{what}: {our} instead of {their}");
    }
}
