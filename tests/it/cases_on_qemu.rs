//! The scenarios of [`crate::cases`] that need a real QEMU. They take longer than the others.

use crate::cases;

#[test]
fn every_scenario_on_a_real_qemu_holds() {
    cases::hold(cases::needs_qemu);
}
