# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: what was measured, as a table and as JSON.

report() {
  local table=$work/table.md
  machine >"$work/machine.tsv"
  table_of markdown >"$table"
  cat "$table"
  if [[ $quick || ${#measurements[@]} -lt ${#all[@]} ]]; then
    say 'a part, or small sizes: results.json and README.md stay as they are'
    return
  fi
  table_of json >"$work/results.json"
  cp "$work/results.json" "$here/results.json"
  into_readme "$table"
}

table_of() {
  awk -F'\t' -v form="$1" -v runs="$runs" -f "$here/lib/report.awk" \
    "$work/machine.tsv" "$work/rows.tsv" "$work/samples.tsv"
}

# machine: what the figures depend on, a key and a value a line; nothing that names this machine.
machine() {
  local cpu folder
  cpu=$(awk -F': *' '/^(model name|Hardware|Processor)/ { print $2; exit }' /proc/cpuinfo)
  folder=$(podman info --format '{{.Store.GraphRoot}}')
  printf '%s\t%s\n' \
    CPU "${cpu:-$(uname -m)}" \
    cores "$(nproc)" \
    memory "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)" \
    kernel "$(uname -sr)" \
    'file system of the volumes' "$(findmnt --noheadings --output FSTYPE --target "$folder")" \
    podman "$(podman version --format '{{.Client.Version}}'), $(podman info --format '{{.Store.GraphDriverName}}, {{.Host.OCIRuntime.Name}}, cgroup {{.Host.CgroupsVersion}}')" \
    Nix "$(podman run --rm --network none "$image" nix --version | awk '{ print $NF }')"
}

# into_readme TABLE: between the two markers.
into_readme() {
  awk -v table="$1" '
    /^<!-- end of results -->$/ { inside = 0 }
    !inside { print }
    /^<!-- results/ { inside = 1; while ((getline line < table) > 0) print line }
  ' "$here/README.md" >"$work/README.md"
  cp "$work/README.md" "$here/README.md"
}
