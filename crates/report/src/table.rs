//! A report for the terminal: at each radius attack by exit; then what stands behind the numbers: members of AutoAttack,
//! distances, transfer between exits, exit policies, the verdict. Seven exits fit into 80 columns.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use neokd_evaluate::interval::Share;
use neokd_evaluate::reliability::Calibration;

use crate::figures::policy_name;
use crate::report::{
    AttackReport, DistanceReport, PolicyReport, QUANTILES, Report, TransferReport, WorstReport, pixel_units,
};

/// More policies than this are a curve, not a table.
pub(crate) const POLICIES: usize = 8;

/// The report as text.
pub fn render(report: &Report) -> String {
    let name = report.config.pointer("/data/name").and_then(|name| name.as_str()).unwrap_or("unknown data");
    let weights = report.weights.as_ref().map(|[file, _]| format!(", weights {file}")).unwrap_or_default();
    let name = name.strip_suffix(" test").unwrap_or(name);
    let mut text = format!("Accuracy in % on {} {name} test images{weights}, seed {}", report.n, report.seed);
    text += &report.origin().map(|origin| format!("\nweights {origin}")).unwrap_or_default();
    text += &deployed(report);
    let mut radii: Vec<(String, Vec<&AttackReport>)> = Vec::new();
    for attack in &report.attacks {
        match radii.last_mut().filter(|(threat, _)| *threat == attack.threat()) {
            Some((_, attacks)) => attacks.push(attack),
            None => radii.push((attack.threat(), vec![attack])),
        }
    }
    if radii.is_empty() {
        text += &format!("\n{}", table(report, &[], None));
    }
    for (threat, attacks) in &radii {
        let worst = report.worst.iter().find(|worst| *threat == worst.threat());
        text += &format!("\n\nunder attack with {} epsilon {}\n", attacks[0].norm, pixel_units(attacks[0].epsilon));
        text += &attacks.iter().map(|attack| effort(attack, report.n)).collect::<String>();
        text += &table(report, attacks, worst);
        for attack in attacks {
            text += &members(attack);
            text += &distances(attack);
            text += &attack.transfer.as_ref().map(|transfer| matrix(attack, transfer)).unwrap_or_default();
        }
    }
    text += &policies(report);
    text += &verdicts(report);
    text
}

/// How hard an attack tried, and what that took.
fn effort(attack: &AttackReport, n: u64) -> String {
    let per_image = |passes: u64| passes as f64 / n.max(1) as f64;
    let seconds = attack.seconds.map(|seconds| format!(", {seconds:.1} seconds")).unwrap_or_default();
    format!(
        "{}: {}; {:.0} + {:.0} passes an image{seconds}\n",
        attack.label(),
        attack.settings,
        per_image(attack.passes.forward),
        per_image(attack.passes.backward)
    )
}

/// A row of the table: its title, each exit's accuracy, their mean, and the images that every exit is right about.
type Row<'a> = (String, Vec<Option<&'a Share>>, Option<&'a Share>);

/// Each exit under the attacks on it alone, if there were any on all of them.
fn own<'a>(title: &str, own: &'a [Option<Share>]) -> Option<Row<'a>> {
    let whole = !own.is_empty() && own.iter().all(Option::is_some);
    whole.then(|| (title.to_string(), own.iter().map(Option::as_ref).collect(), None))
}

fn table(report: &Report, attacks: &[&AttackReport], worst: Option<&WorstReport>) -> String {
    let mut rows: Vec<Row<'_>> = vec![("clean".to_string(), report.clean.exits.iter().map(Some).collect(), None)];
    for attack in attacks {
        let title = attack.label().replace(' ', "\n");
        rows.push((title, attack.accuracy.exits.iter().map(Some).collect(), attack.any_exit.as_ref()));
        rows.extend(own("  own exit", &attack.own).filter(|_| attack.transfer.is_some()));
    }
    if let Some(worst) = worst {
        rows.push(("worst case".to_string(), worst.accuracy.exits.iter().map(Some).collect(), Some(&worst.any_exit)));
        rows.extend(own("  own exit", &worst.own));
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let ends = ["mean".to_string(), "all".to_string()];
    let numbers = (0..report.costs.len()).map(|exit| exit.to_string());
    table.set_header(std::iter::once("exit".to_string()).chain(numbers).chain(ends));
    let percent = |value: f64| format!("{:.2}", 100.0 * value);
    let of = |share: &Option<&Share>| share.map_or_else(String::new, |share| percent(share.value));
    for (title, exits, everywhere) in &rows {
        let known: Vec<f64> = exits.iter().flatten().map(|share| share.value).collect();
        let mean = percent(known.iter().sum::<f64>() / known.len().max(1) as f64);
        table.add_row(std::iter::once(title.clone()).chain(exits.iter().map(of)).chain([mean, of(everywhere)]));
    }
    let costs = report.costs.iter().map(|cost| format!("{:.2}", cost.multiply_adds as f64 / 1e6));
    table.add_row(std::iter::once("M\nmultiply-adds".to_string()).chain(costs));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let shares = rows.iter().flat_map(|(_, exits, everywhere)| exits.iter().chain([everywhere])).flatten();
    let widest = shares.map(|share| (share.value - share.low).max(share.high - share.value)).fold(0.0, f64::max);
    let meaning = if attacks.is_empty() { "" } else { "; all: every exit is right, whatever the attack tried" };
    format!(
        "{table}\n95 % intervals reach at most {:.2} points to either side (each is in the JSON){meaning}\n{}",
        100.0 * widest,
        calibration(report, attacks)
    )
}

/// The expected calibration error, mean over the exits.
fn calibration(report: &Report, attacks: &[&AttackReport]) -> String {
    let mean = |exits: &[Calibration]| 100.0 * exits.iter().map(|exit| exit.error).sum::<f64>() / exits.len() as f64;
    let attacked = attacks.iter().map(|attack| (attack.label(), &attack.calibration));
    let named = std::iter::once(("clean".to_string(), &report.calibration)).chain(attacked);
    let known = named.filter(|(_, exits)| !exits.is_empty());
    let each: Vec<String> = known.map(|(name, exits)| format!("{name} {:.2}", mean(exits))).collect();
    match each.is_empty() {
        true => String::new(),
        false => format!("calibration error in %, mean over the exits: {}\n", each.join(", ")),
    }
}

fn members(run: &AttackReport) -> String {
    let line = |member: &neokd_attack::Spent| {
        let passes = member.passes.forward as f64 / member.attacked.max(1) as f64;
        format!(
            "  {}: broke {} of {} left, {passes:.0} forward passes each\n",
            member.attack, member.broken, member.attacked
        )
    };
    match run.members.is_empty() {
        true => String::new(),
        false => format!("{}\n{}", run.label(), run.members.iter().map(line).collect::<String>()),
    }
}

fn distances(run: &AttackReport) -> String {
    let size = |size: &Option<f64>| size.map_or_else(|| format!("{:>8}", "-"), |size| format!("{size:8.4}"));
    let line = |report: &DistanceReport| {
        let found = format!("{} of {}", report.found.count, report.found.n);
        let sizes: String = report.quantiles.iter().map(size).collect();
        format!("  {:12}{found:>14}{sizes}\n", report.objective)
    };
    match run.distances.is_empty() {
        true => String::new(),
        false => {
            let shares: String = QUANTILES.iter().map(|share| format!("{:>6.0} %", 100.0 * share)).collect();
            format!(
                "{}: {} size of the smallest adversarial perturbation, of images that are right as they are\n  \
                 {:12}{:>14}{shares}\n{}",
                run.label(),
                run.norm,
                "objective",
                "found",
                run.distances.iter().map(line).collect::<String>()
            )
        }
    }
}

fn matrix(run: &AttackReport, transfer: &TransferReport) -> String {
    let n = transfer.rows.first().and_then(|row| row.first()).map_or(0, |share| share.n);
    let mut text = format!(
        "transfer of {}, success in % on the {n} images that all exits know; row: attacked exit, column: measured\n",
        run.label()
    );
    for (exit, row) in transfer.rows.iter().enumerate() {
        let cells: String = row.iter().map(|share| format!("{:8.2}", 100.0 * share.value)).collect();
        text += &format!("{exit:4}{cells}\n");
    }
    text
}

/// The deployed system's own accuracy, before that of the exits, which is another.
fn deployed(report: &Report) -> String {
    let line = |(name, _, share, _): (String, String, &Share, _)| format!("\n{name}: {}", share.with_interval());
    report.of_deployed().into_iter().map(line).collect()
}

/// A line per exit policy, of many only the deployed one: mean cost, accuracy on clean and on attacked images, and what
/// withstands everything.
fn policies(report: &Report) -> String {
    if report.policies.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["policy", "images", "accuracy", "M multiply-adds", "efficacy", "robust"]);
    let mut add = |policy: String, images: &str, PolicyReport { found, robust, efficacy, .. }: &PolicyReport| {
        let (accuracy, cost) = (found.accuracy.with_interval(), format!("{:.2}", found.multiply_adds / 1e6));
        table.add_row([
            policy,
            images.to_string(),
            accuracy,
            cost,
            format!("{efficacy:.3}"),
            robust.map_or_else(String::new, |robust| robust.with_interval()),
        ]);
    };
    let few = report.policies.len() <= POLICIES;
    let shown = report.policies.iter().enumerate().filter(|(index, _)| few || report.deployed == Some(*index));
    for (_, clean) in shown {
        add(policy_name(clean), "clean", clean);
        for attack in &report.attacks {
            if let Some(found) = attack.policies.iter().find(|found| found.policy == clean.policy) {
                add(String::new(), &attack.label(), found);
            }
        }
    }
    let others = if few { String::new() } else { format!(", one of {}", report.policies.len()) };
    format!(
        "\nexit policies on the same images{others} (attacks are on the exits, unless they are named policy or slow; \
         robust: right whatever was tried)\n{table}"
    )
}

/// Whether the accuracies under attack are to be believed, where that was checked.
fn verdicts(report: &Report) -> String {
    let judged = report.attacks.iter().filter_map(|attack| Some((attack, attack.verdict.as_ref()?)));
    let lines = judged.map(|(attack, verdict)| {
        let reasons: String = verdict.reasons.iter().map(|reason| format!("\n  {}", reason.text)).collect();
        format!("\nverdict for {}: {}{reasons}", attack.label(), verdict.level)
    });
    lines.collect()
}
