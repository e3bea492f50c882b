//! A report as a table of numbers for other programs, one number with its interval a line (RFC 4180).

use neokd_evaluate::interval::Share;

use crate::figures::policy_name;
use crate::report::{AttackReport, Report, WorstReport};
use crate::run::Run;

const HEAD: &str = "run,method,seed,data,attack,norm,epsilon,steps,step_size,restarts,policy,exit,multiply_adds,\
                    count,n,value,low,high\n";

/// What `attack` says of images that are answered correctly whatever was tried, and of exits attacked alone.
const ALL: &str = "all";
const OWN: &str = "own exit";
const WORST: &str = "worst case";

/// All accuracies of all runs. `attack` is empty for clean images, `policy` where an exit answers every image, `exit`
/// where a policy chooses it.
pub fn text(runs: &[Run]) -> String {
    let mut text = HEAD.to_string();
    for run in runs {
        for report in run.reports() {
            rows(run, report, &mut text);
        }
    }
    text
}

fn rows(run: &Run, report: &Report, text: &mut String) {
    let whose = [run.name.clone(), run.method(), report.seed.to_string(), run.setting("/data/name")];
    let clean = (vec![String::new(); 6], &report.clean, &report.policies);
    let attacks = report.attacks.iter().map(|attack| (attack_fields(attack), &attack.accuracy, &attack.policies));
    let none = Vec::new();
    let worst = report.worst.iter().map(|worst| (worst_fields(worst), &worst.accuracy, &none));
    for (attack, accuracy, policies) in std::iter::once(clean).chain(attacks).chain(worst) {
        let beginning: Vec<String> = whose.iter().cloned().chain(attack).collect();
        for (exit, share) in accuracy.exits.iter().enumerate() {
            let cost = report.costs.get(exit).map_or(String::new(), |cost| cost.multiply_adds.to_string());
            line(text, &beginning, [String::new(), exit.to_string(), cost], share);
        }
        for found in policies {
            let middle = [policy_name(found), String::new(), found.found.multiply_adds.to_string()];
            line(text, &beginning, middle, &found.found.accuracy);
            if let Some(robust) = &found.robust {
                line(text, &of_several(&beginning, ALL), [policy_name(found), String::new(), String::new()], robust);
            }
        }
    }
    let attacks = report.attacks.iter().map(|attack| (attack_fields(attack), &attack.own, attack.any_exit.as_ref()));
    let worst = report.worst.iter().map(|worst| (worst_fields(worst), &worst.own, Some(&worst.any_exit)));
    for (fields, own, everywhere) in attacks.chain(worst) {
        let beginning: Vec<String> = whose.iter().cloned().chain(fields).collect();
        let own = own.iter().enumerate().filter_map(|(exit, own)| Some((OWN, exit.to_string(), own.as_ref()?)));
        let everywhere = everywhere.map(|share| (ALL, String::new(), share));
        for (what, exit, share) in own.chain(everywhere) {
            line(text, &of_several(&beginning, what), [String::new(), exit, String::new()], share);
        }
    }
    let deployed = report.deployed().map(policy_name).unwrap_or_default();
    for worst in &report.worst {
        if let Some(share) = &worst.deployed {
            let beginning: Vec<String> = whose.iter().cloned().chain(worst_fields(worst)).collect();
            line(text, &beginning, [deployed.clone(), String::new(), String::new()], share);
        }
    }
}

/// The beginning of a line that is about an attack made of several, or about all of a report.
fn of_several(beginning: &[String], what: &str) -> Vec<String> {
    let mut beginning = beginning.to_vec();
    beginning[4] = match beginning[4].as_str() {
        "" => what.to_string(),
        attack => format!("{attack}, {what}"),
    };
    beginning
}

fn worst_fields(worst: &WorstReport) -> Vec<String> {
    let mut fields = vec![WORST.to_string(), worst.norm.to_string(), worst.epsilon.to_string()];
    fields.resize(6, String::new());
    fields
}

fn attack_fields(attack: &AttackReport) -> Vec<String> {
    vec![
        attack.label(),
        attack.norm.to_string(),
        attack.epsilon.to_string(),
        attack.steps.to_string(),
        attack.step_size.map_or(String::new(), |length| length.to_string()),
        attack.restarts.to_string(),
    ]
}

fn line(text: &mut String, beginning: &[String], middle: [String; 3], share: &Share) {
    let numbers = [
        share.count.to_string(),
        share.n.to_string(),
        share.value.to_string(),
        share.low.to_string(),
        share.high.to_string(),
    ];
    let fields = beginning.iter().chain(&middle).chain(&numbers).map(|field| quoted(field));
    text.push_str(&fields.collect::<Vec<_>>().join(","));
    text.push('\n');
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_string(),
    }
}
