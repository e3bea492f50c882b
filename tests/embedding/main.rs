//! The projects for embedders, run: each is compiled from the file that it consists of.

#[path = "../../examples/attack_only/src/main.rs"]
mod attack_only;
#[path = "../../examples/embed/src/main.rs"]
mod embed;
#[path = "../../examples/evaluate_only/src/main.rs"]
mod evaluate_only;

#[test]
fn a_backbone_of_ones_own_is_trained_saved_evaluated_and_reported() {
    embed::main().unwrap();
}

#[test]
fn a_network_is_attacked_without_the_rest() {
    attack_only::main().unwrap();
}

#[test]
fn a_network_is_evaluated_without_the_rest() {
    evaluate_only::main().unwrap();
}
