//! The operator's page holds what the table of options yields.

use contract::config;

const BEGIN: &str = "<!-- What follows is made from the table of options. -->\n";

#[test]
fn the_operators_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, options) = text.split_once(BEGIN).expect("the page has its mark");
    let made = format!("\n{}", config::markdown());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{made}")).unwrap();
        return;
    }
    assert!(
        options == made,
        "docs/operating.md is not what the options yield (UPDATE_SNAPSHOTS=1 writes it anew)"
    );
}
