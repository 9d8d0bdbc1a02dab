fn main() {
    // Replaced by the build room's own.
    let out = std::env::var("OUT_DIR").unwrap();
    let obj = "../target/bpf/bpfel-unknown-none/bpf/xlvs-xdp";
    println!("cargo::rerun-if-changed={obj}");
    let bytes = std::fs::read(obj).unwrap_or_default();
    std::fs::write(format!("{out}/xlvs.bpf.o"), bytes).unwrap();
}
