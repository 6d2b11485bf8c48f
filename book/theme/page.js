// What mdBook leaves to the mouse, for those who use the keyboard; and the light theme for those who print.
(() => {
    const skip = document.createElement('a');
    skip.className = 'skip';
    skip.href = '#mdbook-content';
    skip.textContent = 'Skip to the text';
    document.body.prepend(skip);
    // So that the next Tab goes on from there.
    document.getElementById('mdbook-content').tabIndex = -1;

    // The contents' button is a label, and labels take no keys.
    const toggle = document.getElementById('mdbook-sidebar-toggle');
    toggle.tabIndex = 0;
    toggle.setAttribute('role', 'button');
    toggle.addEventListener('keydown', event => {
        if (event.key === 'Enter' || event.key === ' ') {
            event.preventDefault();
            toggle.click();
        }
    });

    // What is wider than the page is reached with Tab and scrolled with the arrow keys, which elsewhere turn
    // the page.
    const wide = box => box.scrollWidth > box.clientWidth;
    const watch = new ResizeObserver(entries => {
        for (const { target } of entries) {
            if (wide(target)) {
                target.tabIndex = 0;
            } else {
                target.removeAttribute('tabindex');
            }
        }
    });
    const boxes = 'pre > code, .diff, .table-wrapper, .formula, .picture, .plot';
    document.querySelectorAll(boxes).forEach(box => watch.observe(box));
    document.addEventListener('keydown', event => {
        const sideways = event.key === 'ArrowLeft' || event.key === 'ArrowRight';
        if (sideways && event.target.matches(boxes) && wide(event.target)) {
            event.stopPropagation();
        }
    }, true);

    const page = document.documentElement;
    const colours = ['highlight', 'tomorrow-night', 'ayu-highlight'].map(
        name => document.getElementById(`mdbook-${name}-css`));
    let before;
    window.addEventListener('beforeprint', () => {
        before = { theme: page.className, off: colours.map(sheet => sheet.disabled) };
        page.classList.remove('rust', 'coal', 'navy', 'ayu');
        page.classList.add('light');
        colours.forEach((sheet, i) => { sheet.disabled = i > 0; });
    });
    window.addEventListener('afterprint', () => {
        page.className = before.theme;
        colours.forEach((sheet, i) => { sheet.disabled = before.off[i]; });
    });
})();
