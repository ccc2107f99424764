//! Where distributions publish images with cloud-init, as qqmgr(7) lists it.

/// The names of distributions, and the addresses of their images.
const PUBLISHERS: &[(&str, &str)] = &[
    ("Alpine", "https://dl-cdn.alpinelinux.org/alpine/"),
    ("Debian", "https://cloud.debian.org/images/cloud/"),
    ("Fedora", "https://download.fedoraproject.org/pub/fedora/linux/releases/"),
    ("FreeBSD", "https://download.freebsd.org/releases/VM-IMAGES/"),
    ("openSUSE", "https://download.opensuse.org/"),
    ("Ubuntu", "https://cloud-images.ubuntu.com/"),
];

/// A hint for a user who gave a word in place of an image, such as the name of a distribution.
pub(super) fn hint(word: &str) -> Option<String> {
    if word.contains('/') {
        return None;
    }
    let is_meant = |name: &str| word.to_lowercase().starts_with(&name.to_lowercase());
    let publisher = PUBLISHERS.iter().find(|(name, _)| is_meant(name));
    Some(match publisher {
        Some((name, address)) => format!(
            "{name} has images below {address}: `qqmgr init --image URL` takes one; qqmgr(7), \
             IMAGES, says which"
        ),
        None => "`--image` takes a file or a URL; qqmgr(7), IMAGES, lists where distributions \
                 publish images"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../man/qqmgr.7");

    #[test]
    fn the_man_page_lists_them() {
        for (name, address) in PUBLISHERS {
            assert!(PAGE.contains(&format!("\n.It {name}\n{address} ")), "{name}");
        }
    }
}
