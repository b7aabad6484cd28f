# The report's table (form=markdown) or JSON (form=json), from three files of tab-separated values: the machine, the
# rows and the samples (see base.sh).

BEGIN { infinity = 2 ^ 60 }
FNR == 1 { file++ }
file == 1 { machine_key[++machines] = $1; machine_value[machines] = $2 }
file == 2 {
  # A bar would end the cell.
  for (f = 5; f <= 7; f++) if (form == "markdown") gsub(/\|/, "\\|", $f)
  id[++rows] = $1; kind[rows] = $2; unit[rows] = $3; target[rows] = $4
  what[rows] = $5; name["ours", rows] = $6; name["theirs", rows] = $7
}
file == 3 { key = $1 SUBSEP $2; value[key, ++count[key]] = $3 }
END {
  for (r = 1; r <= rows; r++) { summary(r, "ours"); summary(r, "theirs"); judge(r) }
  if (form == "json") json(); else markdown()
}

# Sorts the samples of one side; sets low, middle and high.
function summary(r, side,    key, n, i, j, swap) {
  key = id[r] SUBSEP side
  n = count[key]
  for (i = 2; i <= n; i++)
    for (j = i; j > 1 && value[key, j - 1] + 0 > value[key, j] + 0; j--) {
      swap = value[key, j]; value[key, j] = value[key, j - 1]; value[key, j - 1] = swap
    }
  low[r, side] = value[key, 1]
  high[r, side] = value[key, n]
  middle[r, side] = n % 2 ? value[key, (n + 1) / 2] : (value[key, n / 2] + value[key, n / 2 + 1]) / 2
}

function judge(r) {
  ratio[r] = count[id[r], "theirs"] && middle[r, "theirs"] > 0 ? sprintf("%.2f", middle[r, "ours"] / middle[r, "theirs"]) : ""
  met[r] = ""
  if (kind[r] == "ratio") met[r] = ratio[r] <= target[r] + 0 ? "yes" : "no"
  if (kind[r] == "above") met[r] = middle[r, "ours"] - middle[r, "theirs"] <= target[r] + 0 ? "yes" : "no"
  if (kind[r] == "most") met[r] = high[r, "ours"] <= target[r] + 0 ? "yes" : "no"
  if (kind[r] == "below") met[r] = high[r, "ours"] < target[r] + 0 ? "yes" : "no"
}

function markdown(    r, i) {
  print ""
  for (i = 1; i <= machines; i++) printf "%s%s: %s", i == 1 ? "Machine: " : "; ", machine_key[i], machine_value[i]
  printf ".\nMedian (min to max) of %d runs in turn, A B A B; \"ratio\" is that of the medians.\n\n", runs
  print "| what | ours | compared with | ours took | the other took | ratio | target | met |"
  print "|---|---|---|---|---|---|---|---|"
  for (r = 1; r <= rows; r++)
    printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", what[r], name["ours", r], name["theirs", r],
      spread(r, "ours"), spread(r, "theirs"), kind[r] ~ /^(show|ratio|above)$/ ? ratio[r] : "", goal(r), met[r]
  print ""
}

function spread(r, side,    n) {
  n = count[id[r], side]
  if (!n) return ""
  if (n == 1) return number(middle[r, side]) " " unit[r]
  return number(middle[r, side]) " " unit[r] " (" number(low[r, side]) " to " number(high[r, side]) ")"
}

function number(x) { return x == int(x) ? sprintf("%d", x) : sprintf("%.2f", x) }

function goal(r) {
  if (kind[r] == "show") return ""
  if (kind[r] == "above") return "≤ the other + " target[r] " " unit[r]
  return (kind[r] == "below" ? "< " : "≤ ") target[r] (kind[r] == "ratio" ? "" : " " unit[r])
}

function json(    r, i) {
  printf "{\n  \"machine\": {"
  for (i = 1; i <= machines; i++) printf "%s\n    %s: %s", (i > 1 ? "," : ""), text(machine_key[i]), text(machine_value[i])
  printf "\n  },\n  \"rows\": ["
  for (r = 1; r <= rows; r++) {
    printf "%s\n    {\n      \"id\": %s, \"what\": %s, \"unit\": %s,\n", (r > 1 ? "," : ""), text(id[r]), text(what[r]), text(unit[r])
    printf "      \"ours\": %s,\n      \"theirs\": %s,\n", one_side(r, "ours"), one_side(r, "theirs")
    printf "      \"target\": %s, \"ratio\": %s, \"met\": %s\n    }", kind[r] == "show" ? "null" : text(goal(r)),
      ratio[r] == "" ? "null" : ratio[r], met[r] == "" ? "null" : (met[r] == "yes" ? "true" : "false")
  }
  printf "\n  ]\n}\n"
}

function one_side(r, which,    n, i, list) {
  n = count[id[r], which]
  if (!n) return "null"
  for (i = 1; i <= n; i++) list = list (i > 1 ? ", " : "") value[id[r], which, i]
  return sprintf("{ \"what\": %s, \"min\": %s, \"median\": %s, \"max\": %s, \"sorted\": [%s] }",
    text(name[which, r]), low[r, which], middle[r, which], high[r, which], list)
}

function text(s) {
  gsub(/\\/, "\\\\", s)
  gsub(/"/, "\\\"", s)
  return "\"" s "\""
}
