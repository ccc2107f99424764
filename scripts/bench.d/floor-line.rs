//! The floor of every command that prints: a program that prints one line.

fn main() {
    println!("one line");
}
