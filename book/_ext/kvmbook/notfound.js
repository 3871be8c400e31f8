// The site may lie below another path than it was built for: finds the folder that has the site's file, and shows this
// page with links that begin there. Asks this host only.
async ({ root, file }) => {
  const there = async folder => (await fetch(folder + file, { method: 'HEAD' }).catch(() => null))?.ok;
  if (location.pathname.startsWith(root) && await there(root)) return;
  const parts = location.pathname.split('/').slice(0, -1);
  const folders = parts.map((_, depth) => parts.slice(0, depth + 1).join('/') + '/');
  for (const folder of folders) {
    if (folder === root || !await there(folder)) continue;
    const text = await (await fetch(folder + '404.html')).text();
    const moved = text.replaceAll(` href="${root}`, ` href="${folder}`).replaceAll(` src="${root}`, ` src="${folder}`)
      .replace(`data-content_root="${root}"`, `data-content_root="${folder}"`).replaceAll(`"root": "${root}"`, `"root": "${folder}"`);
    document.open();
    document.write(moved);
    document.close();
    return;
  }
}
